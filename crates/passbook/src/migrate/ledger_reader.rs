//! The columns of the ledger that the account-service may read, in the views of the schema
//! `reporting`. It reads them for requests only; its own data comes from messages.

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::provision::LEDGER_READER;

/// Each view with its columns.
const READS: [(&str, &str); 3] = [
    ("accounts", "account_id, currency, balance, account_seq"),
    (
        "transactions",
        "id, record_id, account_id, type, amount, currency, reason, balance_after, account_seq,
         created_at",
    ),
    ("writers", "virtual_transaction"),
];

/// Grants the role these columns, if the role exists.
pub(super) async fn grant(connection: &mut PgConnection) -> Result<()> {
    let grants: String = READS
        .iter()
        .map(|(view, columns)| {
            format!("GRANT SELECT ({columns}) ON reporting.{view} TO {LEDGER_READER};\n")
        })
        .collect();
    let grants = format!(
        "DO $$ BEGIN IF to_regrole('{LEDGER_READER}') IS NOT NULL THEN
             GRANT USAGE ON SCHEMA reporting TO {LEDGER_READER};
             {grants}
         END IF; END $$"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(connection).await?;
    Ok(())
}
