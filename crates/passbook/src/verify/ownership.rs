//! Rows whose account is not there: no foreign key looks after that.

use anyhow::Result;
use futures::TryStreamExt;
use sqlx::PgConnection;
use uuid::Uuid;

use super::report::Report;

/// Records of accounts that were never opened, and transactions of accounts
/// that the ledger does not have. An account is there before its first row, in
/// any snapshot that has the row.
pub(super) async fn compare(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    report: &mut Report,
) -> Result<()> {
    let mut records = sqlx::query_as::<_, (Uuid, i64)>(
        "SELECT account_id, count(*) FROM transaction_records r
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.account_id = r.account_id) GROUP BY 1",
    )
    .fetch(accounts);
    while let Some((id, count)) = records.try_next().await? {
        report.projected.count(Some(format!("account {id} has {count} records and is no account")));
    }
    let mut transactions = sqlx::query_as::<_, (Uuid, i64)>(
        "SELECT account_id, count(*) FROM transactions t
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.account_id = t.account_id) GROUP BY 1",
    )
    .fetch(ledger);
    while let Some((id, count)) = transactions.try_next().await? {
        let wrong = format!("account {id} has {count} transactions and no balance");
        report.conserved.count(Some(wrong));
    }
    Ok(())
}
