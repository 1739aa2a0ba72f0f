//! Settles records: handles batches of results.

use contract::{InvalidMessage, Kind, Outcome, TransactionResult};
use runtime::postgres::PgPool;
use runtime::{
    telemetry::trace::Commit,
    worker::{Delivery, Failure, Handler, LockedKeys, Verdict},
};
use sqlx::types::Uuid;

use crate::{
    store::{self, SettleOutcome},
    waiters::{Notification, Waiters},
};

/// Handles results.
#[derive(Debug)]
pub struct SettleRecords {
    /// The database with the records.
    pub pool: PgPool,
    /// The waiting clients of the records.
    pub waiters: Waiters,
    /// Records and accounts that other transactions held when they were last asked for.
    pub locked: LockedKeys<Uuid>,
}

impl Handler for SettleRecords {
    async fn process(&self, batch: &[Delivery]) -> Result<Vec<Verdict>, Failure> {
        let parse =
            |delivery: &Delivery| TransactionResult::parse(&delivery.subject, &delivery.payload);
        let parsed: Vec<_> = batch.iter().map(parse).collect();
        let results: Vec<TransactionResult> = parsed.iter().flatten().cloned().collect();
        let commit = Commit::begin("UPDATE", "transaction_records");
        let outcomes = store::settle_unlocked(&self.pool, &results, &self.locked).await;
        let valid = batch.iter().zip(&parsed).filter(|(_, parsed)| parsed.is_ok());
        commit.end(
            results.len(),
            valid.map(|(delivery, _)| &delivery.trace),
            outcomes.as_ref().err(),
        );
        let outcomes = outcomes?;
        let settled: Vec<_> = results
            .iter()
            .zip(&outcomes)
            .filter_map(|(result, outcome)| match outcome {
                SettleOutcome::Settled(times) => Some((
                    result.record_id,
                    Notification {
                        settlement: result.into(),
                        account_seq: store::account_seq(result.outcome),
                        at: times.settled,
                    },
                )),
                _ => None,
            })
            .collect();
        record_metrics(&results, &outcomes);
        self.waiters.notify(&settled).await;
        let mut outcomes = outcomes.into_iter();
        Ok(parsed.into_iter().map(|parsed| verdict(parsed, &mut outcomes)).collect())
    }
}

/// Counts the settled records, and records the time from acceptance to settlement.
pub(crate) fn record_metrics(results: &[TransactionResult], outcomes: &[SettleOutcome]) {
    for kind in Kind::ALL {
        let (mut applied, mut refused) = (0, 0);
        let duration = metrics::histogram!("passbook_settle_seconds", "type" => kind.as_str());
        let of_kind = results.iter().zip(outcomes).filter(|(result, _)| result.kind == kind);
        for (result, outcome) in of_kind {
            let SettleOutcome::Settled(times) = outcome else { continue };
            match result.outcome {
                Outcome::Applied { .. } => applied += 1,
                Outcome::Refused(_) => refused += 1,
            }
            duration.record((times.settled - times.accepted).as_seconds_f64());
        }
        for (status, records) in [("SUCCESS", applied), ("FAILED", refused)] {
            metrics::counter!("passbook_records_settled_total",
                "status" => status, "type" => kind.as_str())
            .increment(records);
        }
    }
}

/// The verdict about a message. Each valid message takes the next outcome.
fn verdict(
    parsed: Result<TransactionResult, InvalidMessage>,
    outcomes: &mut impl Iterator<Item = SettleOutcome>,
) -> Verdict {
    let result = match parsed {
        Ok(result) => result,
        Err(invalid) => return Verdict::DeadLetter(invalid.to_string()),
    };
    match outcomes.next() {
        Some(SettleOutcome::Settled(_) | SettleOutcome::SettledBefore) => Verdict::Done(None),
        Some(SettleOutcome::Contradicts(contradiction)) => {
            Verdict::DeadLetter(format!("record {}: {contradiction}", result.record_id))
        }
        Some(SettleOutcome::Locked) => Verdict::Locked,
        Some(SettleOutcome::NoRecord) | None => {
            Verdict::DeadLetter(format!("there is no record {}", result.record_id))
        }
    }
}
