//! Records against transactions, merged by record id.

use std::time::Duration;

use anyhow::Result;
use futures::TryStreamExt;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::report::Report;
use crate::{database::Movement, output};

/// A record, and how long it has been there.
#[derive(Debug, FromRow)]
struct Accepted {
    #[sqlx(flatten)]
    movement: Movement,
    age: i64,
    redrives: i32,
}

/// Goes through both in the order of their record ids.
pub(super) async fn compare(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    latest: &mut PgConnection,
    limit: Duration,
    report: &mut Report,
) -> Result<()> {
    let progress = output::progress("records compared with the ledger", None);
    let mut records = sqlx::query_as::<_, Accepted>(
        "SELECT id AS record_id, transaction_id, account_id, type, amount, currency, status, reason,
                balance_after, extract(epoch FROM now() - created_at)::bigint AS age, redrives
         FROM transaction_records ORDER BY id",
    )
    .fetch(accounts);
    let mut transactions = sqlx::query_as::<_, Movement>(
        "SELECT record_id, id AS transaction_id, account_id, type, amount, currency, status, reason,
                balance_after
         FROM transactions ORDER BY record_id, id",
    )
    .fetch(ledger);
    let mut record = records.try_next().await?;
    let mut transaction = transactions.try_next().await?;
    let mut last_decided = None;
    loop {
        // Whichever side is behind: the lower id, or the only side left.
        let ids = (
            record.as_ref().map(|it| it.movement.record_id),
            transaction.as_ref().map(|it| it.record_id),
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
            let again = last_decided.replace(decided.record_id) == Some(decided.record_id);
            report.once.count(again.then(|| format!("record {} has several", decided.record_id)));
            if decided.status == "FAILED" {
                report.pinned.count(refusal_that_moved(decided));
            }
            if this_record.is_none() && !again {
                let known = is_recorded(latest, decided.record_id).await?;
                let unknown =
                    || format!("transaction of {}, which is no record", decided.record_id);
                if !known {
                    report.agreed.count(Some(unknown()));
                }
            }
        }
        if let Some(accepted) = &this_record {
            report.counts.accepted += 1;
            report.settled.count(overdue(accepted, limit));
            let Accepted { movement: accepted, age, .. } = accepted;
            if accepted.status == "PENDING" {
                let oldest = &mut report.counts.oldest_pending_seconds;
                *oldest = (*oldest).max(Some(*age));
            } else {
                report.counts.settled += 1;
            }
            match (accepted.status.as_str(), &this_transaction) {
                ("PENDING", decided) => {
                    report.pending += 1;
                    // Its result is on its way, and must be one that it can take.
                    if let Some(decided) = decided {
                        report.agreed.count(other_movement(accepted, decided));
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

/// What a record is that should be settled by now.
fn overdue(record: &Accepted, limit: Duration) -> Option<String> {
    let age = Duration::from_secs(u64::try_from(record.age).unwrap_or(0));
    (record.movement.status == "PENDING" && age > limit).then(|| {
        format!(
            "record {} is PENDING for {}, its command was sent again {} times",
            record.movement.record_id,
            humantime::format_duration(age),
            record.redrives
        )
    })
}

fn refusal_that_moved(refusal: &Movement) -> Option<String> {
    let sound = refusal.reason.is_some() && refusal.balance_after.is_none();
    (!sound).then(|| format!("record {}: {refusal:?}", refusal.record_id))
}

fn other_movement(accepted: &Movement, decided: &Movement) -> Option<String> {
    let of = |it: &Movement| (it.account_id, it.r#type.clone(), it.amount, it.currency.clone());
    (of(accepted) != of(decided)).then(|| {
        format!(
            "record {}: it asks for {accepted:?}, the ledger decided {decided:?}",
            accepted.record_id
        )
    })
}

fn difference(accepted: &Movement, decided: &Movement) -> Option<String> {
    (accepted != decided).then(|| {
        format!("record {}: it says {accepted:?}, the ledger {decided:?}", accepted.record_id)
    })
}

/// A record that is in the ledger and was not in the snapshot may have been
/// accepted since.
async fn is_recorded(latest: &mut PgConnection, id: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM transaction_records WHERE id = $1)")
        .bind(id)
        .fetch_one(latest)
        .await?)
}
