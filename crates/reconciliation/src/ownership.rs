//! Rows without an account. No foreign key prevents them.

use uuid::Uuid;

use crate::{
    Error, balances::account, check::Finding, findings::Findings, rows, sources::Connections,
};

/// Finds records and events of unopened accounts, and transactions of accounts unknown to the
/// ledger.
///
/// An account is committed before its first row, so every snapshot with the row has the account.
pub(crate) async fn compare(
    connections: &mut Connections,
    findings: &mut Findings,
) -> Result<(), Error> {
    let mut records = sqlx::query_as::<_, (Uuid, i64)>(
        "SELECT account_id, count(*) FROM transaction_records r
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.account_id = r.account_id) GROUP BY 1",
    )
    .fetch(&mut connections.accounts);
    while let Some((id, count)) = rows::next(&mut records).await.map_err(Error::Accounts)? {
        let detail = format!("has {count} records, but does not exist");
        findings.projected.count(Some(Finding::new(account(id), detail)));
    }
    drop(records);
    let mut events = sqlx::query_as::<_, (Uuid, i64)>(
        "SELECT account_id, count(*) FROM events e
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.account_id = e.account_id) GROUP BY 1",
    )
    .fetch(&mut connections.accounts);
    while let Some((id, count)) = rows::next(&mut events).await.map_err(Error::Accounts)? {
        let detail = format!("has {count} events, but does not exist");
        findings.announced.count(Some(Finding::new(account(id), detail)));
    }
    let mut transactions = sqlx::query_as::<_, (Uuid, i64)>(
        "SELECT account_id, count(*) FROM transactions t
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.account_id = t.account_id) GROUP BY 1",
    )
    .fetch(&mut connections.ledger);
    while let Some((id, count)) = rows::next(&mut transactions).await.map_err(Error::Ledger)? {
        let detail = format!("has {count} transactions, but no balance");
        findings.conserved.count(Some(Finding::new(account(id), detail)));
    }
    Ok(())
}
