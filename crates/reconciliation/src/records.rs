//! Compares records with transactions, merged by record id.

use std::time::Duration;

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    Error, Progress, check::Finding, dated::in_the_future, findings::Findings,
    movement_row::MovementRow, rows, sources::Connections,
};

/// A record of the account-service.
#[derive(Debug, FromRow)]
struct RecordRow {
    #[sqlx(flatten)]
    movement: MovementRow,
    /// In seconds.
    age: i64,
    redrives: i32,
}

/// A transaction of the ledger.
#[derive(Debug, FromRow)]
struct TransactionRow {
    #[sqlx(flatten)]
    movement: MovementRow,
    /// In seconds.
    age: i64,
}

/// Reads records and transactions in the order of their record ids, and compares each pair.
///
/// # Errors
/// When a database can't be read.
pub(crate) async fn compare(
    connections: &mut Connections,
    limit: Duration,
    progress: &mut (dyn FnMut(Progress) + Send),
    findings: &mut Findings,
) -> Result<(), Error> {
    let Connections { accounts, ledger, latest } = connections;
    let mut records = sqlx::query_as::<_, RecordRow>(
        "SELECT id AS record_id, transaction_id, account_id, type, amount, currency, status, reason,
                balance_after, extract(epoch FROM now() - created_at)::bigint AS age, redrives
         FROM transaction_records ORDER BY id",
    )
    .fetch(accounts);
    let mut transactions = sqlx::query_as::<_, TransactionRow>(
        "SELECT record_id, id AS transaction_id, account_id, type, amount, currency, status, reason,
                balance_after, extract(epoch FROM now() - created_at)::bigint AS age
         FROM transactions ORDER BY record_id, id",
    )
    .fetch(ledger);
    let mut record = rows::next(&mut records).await.map_err(Error::Accounts)?;
    let mut transaction = rows::next(&mut transactions).await.map_err(Error::Ledger)?;
    let mut last_decided = None;
    let mut done = 0;
    loop {
        // The next row is the one with the lower id, or that of the only side with rows left. Rows
        // with the same id are taken together.
        let ids = (
            record.as_ref().map(|record| record.movement.record_id),
            transaction.as_ref().map(|transaction| transaction.movement.record_id),
        );
        let (take_record, take_transaction) = match ids {
            (None, None) => break,
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some(accepted), Some(decided)) => (accepted <= decided, decided <= accepted),
        };
        let this_record = record.take_if(|_| take_record);
        let this_transaction = transaction.take_if(|_| take_transaction);
        done += 1;
        progress(Progress::Records(done));
        if let Some(TransactionRow { movement: decided, age }) = &this_transaction {
            let subject = || format!("the transaction of record {}", decided.record_id);
            findings.dated.count(in_the_future(*age, subject));
            findings.counts.ledgered += 1;
            let id = decided.record_id;
            let is_duplicate = last_decided.replace(id) == Some(id);
            let several = || Finding::new(record_subject(id), "has several transactions");
            findings.once.count(is_duplicate.then(several));
            if decided.status == "FAILED" {
                findings.pinned.count(invalid_refusal(decided));
            }
            if this_record.is_none() && !is_duplicate && !record_exists(latest, id).await? {
                let detail = "has a transaction, but does not exist";
                findings.agreed.count(Some(Finding::new(record_subject(id), detail)));
            }
        }
        if let Some(accepted) = &this_record {
            findings.counts.accepted += 1;
            let mut overdue = overdue(accepted, limit);
            if overdue.is_some() && !is_pending(latest, accepted.movement.record_id).await? {
                overdue = None;
            }
            findings.settled.count(overdue);
            let RecordRow { movement: accepted, age, .. } = accepted;
            findings.dated.count(in_the_future(*age, || record_subject(accepted.record_id)));
            let this_transaction = this_transaction.as_ref().map(|row| &row.movement);
            if accepted.status == "PENDING" {
                let oldest = &mut findings.counts.oldest_pending_seconds;
                *oldest = (*oldest).max(Some(*age));
            } else {
                findings.counts.settled += 1;
            }
            match (accepted.status.as_str(), this_transaction) {
                ("PENDING", decided) => {
                    findings.pending += 1;
                    // The result is in flight. The record must be able to take it.
                    if let Some(decided) = decided {
                        findings.agreed.count(different_movement(accepted, decided));
                    }
                }
                (_, Some(decided)) => findings.agreed.count(difference(accepted, decided)),
                (status, None) => {
                    let id = accepted.record_id;
                    let detail = format!("is {status}, the ledger has nothing");
                    findings.agreed.count(Some(Finding::new(record_subject(id), detail)));
                }
            }
        }
        if take_record {
            record = rows::next(&mut records).await.map_err(Error::Accounts)?;
        }
        if take_transaction {
            transaction = rows::next(&mut transactions).await.map_err(Error::Ledger)?;
        }
    }
    Ok(())
}

/// The subject of a finding.
pub(crate) fn record_subject(id: Uuid) -> String {
    format!("record {id}")
}

/// A finding for a record PENDING for longer than the limit.
fn overdue(record: &RecordRow, limit: Duration) -> Option<Finding> {
    let age = Duration::from_secs(u64::try_from(record.age).unwrap_or(0));
    (record.movement.status == "PENDING" && age > limit).then(|| {
        let detail = format!(
            "is PENDING for {}; its command was redriven {} times",
            humantime::format_duration(age),
            record.redrives
        );
        Finding::new(record_subject(record.movement.record_id), detail)
    })
}

fn invalid_refusal(refusal: &MovementRow) -> Option<Finding> {
    let sound = refusal.reason.is_some() && refusal.balance_after.is_none();
    (!sound).then(|| Finding::new(record_subject(refusal.record_id), format!("is {refusal}")))
}

fn different_movement(accepted: &MovementRow, decided: &MovementRow) -> Option<Finding> {
    (!accepted.is_same_movement(decided)).then(|| {
        let detail = format!("asks for {accepted}, the ledger decided {decided}");
        Finding::new(record_subject(accepted.record_id), detail)
    })
}

fn difference(accepted: &MovementRow, decided: &MovementRow) -> Option<Finding> {
    (accepted != decided).then(|| {
        let detail = format!("is {accepted}, the ledger has {decided}");
        Finding::new(record_subject(accepted.record_id), detail)
    })
}

/// Whether a record is PENDING now. One that settles meanwhile only seems old: the clock of its
/// service is behind.
async fn is_pending(latest: &mut PgConnection, id: Uuid) -> Result<bool, Error> {
    let pending =
        "SELECT EXISTS (SELECT FROM transaction_records WHERE id = $1 AND status = 'PENDING')";
    let pending = sqlx::query_scalar(pending).bind(id).fetch_one(latest);
    rows::answered(pending).await.map_err(Error::Accounts)
}

/// Whether a record exists now. A record missing from the snapshot may have been accepted since.
async fn record_exists(latest: &mut PgConnection, id: Uuid) -> Result<bool, Error> {
    let exists =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM transaction_records WHERE id = $1)");
    rows::answered(exists.bind(id).fetch_one(latest)).await.map_err(Error::Accounts)
}
