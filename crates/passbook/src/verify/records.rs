//! Compares records with transactions, merged by record id.

use std::time::Duration;

use anyhow::Result;
use futures::TryStreamExt;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::report::Report;
use crate::{age, movement_row::MovementRow, output};

/// A record of the account-service.
#[derive(Debug, FromRow)]
struct RecordRow {
    #[sqlx(flatten)]
    movement: MovementRow,
    /// In seconds.
    age: i64,
    redrives: i32,
}

/// Reads records and transactions in the order of their record ids, and compares each pair.
///
/// `latest` sees commits after the snapshots of `accounts` and `ledger`.
pub(super) async fn compare(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    latest: &mut PgConnection,
    limit: Duration,
    report: &mut Report,
) -> Result<()> {
    let progress = output::progress("records compared with the ledger", None);
    let mut records = sqlx::query_as::<_, RecordRow>(
        "SELECT id AS record_id, transaction_id, account_id, type, amount, currency, status, reason,
                balance_after, extract(epoch FROM now() - created_at)::bigint AS age, redrives
         FROM transaction_records ORDER BY id",
    )
    .fetch(accounts);
    let mut transactions = sqlx::query_as::<_, MovementRow>(
        "SELECT record_id, id AS transaction_id, account_id, type, amount, currency, status, reason,
                balance_after
         FROM transactions ORDER BY record_id, id",
    )
    .fetch(ledger);
    let mut record = records.try_next().await?;
    let mut transaction = transactions.try_next().await?;
    let mut last_decided = None;
    loop {
        // The next row is the one with the lower id, or that of the only side with rows left. Rows
        // with the same id are taken together.
        let ids = (
            record.as_ref().map(|record| record.movement.record_id),
            transaction.as_ref().map(|transaction| transaction.record_id),
        );
        let (take_record, take_transaction) = match ids {
            (None, None) => break,
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some(accepted), Some(decided)) => (accepted <= decided, decided <= accepted),
        };
        let this_record = record.take_if(|_| take_record);
        let this_transaction = transaction.take_if(|_| take_transaction);
        progress.inc(1);
        if let Some(decided) = &this_transaction {
            report.counts.ledgered += 1;
            let id = decided.record_id;
            let is_duplicate = last_decided.replace(id) == Some(id);
            let several = || format!("record {id} has several transactions");
            report.once.count(is_duplicate.then(several));
            if decided.status == "FAILED" {
                report.pinned.count(invalid_refusal(decided));
            }
            if this_record.is_none() && !is_duplicate && !record_exists(latest, id).await? {
                let finding = format!("transaction of {id}, which is no record");
                report.agreed.count(Some(finding));
            }
        }
        if let Some(accepted) = &this_record {
            report.counts.accepted += 1;
            report.settled.count(overdue(accepted, limit));
            let RecordRow { movement: accepted, age, .. } = accepted;
            if accepted.status == "PENDING" {
                let oldest = &mut report.counts.oldest_pending_seconds;
                *oldest = (*oldest).max(Some(*age));
            } else {
                report.counts.settled += 1;
            }
            match (accepted.status.as_str(), &this_transaction) {
                ("PENDING", decided) => {
                    report.pending += 1;
                    // The result is in flight. The record must be able to take it.
                    if let Some(decided) = decided {
                        report.agreed.count(different_movement(accepted, decided));
                    }
                }
                (_, Some(decided)) => report.agreed.count(difference(accepted, decided)),
                (status, None) => {
                    let id = accepted.record_id;
                    report
                        .agreed
                        .count(Some(format!("record {id} is {status}, the ledger has nothing")));
                }
            }
        }
        if take_record {
            record = records.try_next().await?;
        }
        if take_transaction {
            transaction = transactions.try_next().await?;
        }
    }
    progress.finish_and_clear();
    Ok(())
}

/// A finding for a record PENDING for longer than the limit.
fn overdue(record: &RecordRow, limit: Duration) -> Option<String> {
    let age = age::from_seconds(record.age);
    (record.movement.status == "PENDING" && age > limit).then(|| {
        format!(
            "record {} is PENDING for {}; its command was redriven {} times",
            record.movement.record_id,
            age::format(age),
            record.redrives
        )
    })
}

fn invalid_refusal(refusal: &MovementRow) -> Option<String> {
    let sound = refusal.reason.is_some() && refusal.balance_after.is_none();
    (!sound).then(|| format!("record {}: {refusal}", refusal.record_id))
}

fn different_movement(accepted: &MovementRow, decided: &MovementRow) -> Option<String> {
    (!accepted.is_same_movement(decided)).then(|| {
        format!(
            "record {}: it asks for {accepted}, the ledger decided {decided}",
            accepted.record_id
        )
    })
}

fn difference(accepted: &MovementRow, decided: &MovementRow) -> Option<String> {
    (accepted != decided).then(|| {
        format!("record {}: the record is {accepted}, the ledger has {decided}", accepted.record_id)
    })
}

/// Whether a record exists now. A record missing from the snapshot may have been accepted since.
async fn record_exists(latest: &mut PgConnection, id: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM transaction_records WHERE id = $1)")
        .bind(id)
        .fetch_one(latest)
        .await?)
}
