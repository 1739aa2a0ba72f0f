//! Rows without an account. No foreign key prevents them.

use anyhow::Result;
use futures::TryStreamExt;
use sqlx::PgConnection;
use uuid::Uuid;

use super::report::Report;

/// Finds records of unopened accounts, and transactions of accounts unknown to the ledger.
///
/// An account is committed before its first row, so every snapshot with the row has the account.
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
        report
            .projected
            .count(Some(format!("account {id} has {count} records, but does not exist")));
    }
    let mut transactions = sqlx::query_as::<_, (Uuid, i64)>(
        "SELECT account_id, count(*) FROM transactions t
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.account_id = t.account_id) GROUP BY 1",
    )
    .fetch(ledger);
    while let Some((id, count)) = transactions.try_next().await? {
        let finding = format!("account {id} has {count} transactions, but no balance");
        report.conserved.count(Some(finding));
    }
    Ok(())
}
