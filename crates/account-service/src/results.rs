//! Results in, records settled: what the pull loop does with a batch of
//! results.

use contract::{Kind, MovementResult, Outcome};
use runtime::{
    trace::Commit,
    worker::{Delivery, Failure, Handler, Verdict},
};
use sqlx::PgPool;

use crate::{
    settled::{News, Settled},
    store::{self, Settling},
};

/// Settles records.
#[derive(Debug)]
pub struct SettleRecords {
    /// Where the records are.
    pub pool: PgPool,
    /// Who waits for them.
    pub settled: Settled,
}

impl Handler for SettleRecords {
    async fn process(&self, batch: &[Delivery]) -> Result<Vec<Verdict>, Failure> {
        let read: Vec<_> = batch.iter().map(read).collect();
        let results: Vec<MovementResult> = read.iter().flatten().cloned().collect();
        let commit = Commit::begin("UPDATE", "transaction_records");
        let settling = store::settle(&self.pool, &results).await;
        let traces = batch.iter().zip(&read).filter(|it| it.1.is_ok()).map(|it| &it.0.trace);
        commit.end(results.len(), traces, settling.as_ref().err());
        let settling = settling?;
        let settled: Vec<_> = results
            .iter()
            .zip(&settling)
            .filter_map(|(result, settling)| match settling {
                Settling::Settled(times) => {
                    Some((result.record_id, News { settlement: result.into(), at: times.settled }))
                }
                _ => None,
            })
            .collect();
        measure(&results, &settling);
        self.settled.tell(&settled).await;
        let mut settling = settling.into_iter();
        Ok(read.into_iter().map(|read| verdict(read, &mut settling)).collect())
    }
}

/// Counts the records that were settled, and how long that took.
pub(crate) fn measure(results: &[MovementResult], settling: &[Settling]) {
    for kind in Kind::ALL {
        let (mut applied, mut refused) = (0, 0);
        let took = metrics::histogram!("passbook_settle_seconds", "type" => kind.as_str());
        let these = results.iter().zip(settling).filter(|(result, _)| result.kind == kind);
        for (result, settling) in these {
            let Settling::Settled(times) = settling else { continue };
            match result.outcome {
                Outcome::Applied { .. } => applied += 1,
                Outcome::Refused(_) => refused += 1,
            }
            took.record((times.settled - times.accepted).as_seconds_f64());
        }
        for (status, records) in [("SUCCESS", applied), ("FAILED", refused)] {
            metrics::counter!("passbook_records_settled_total",
                "status" => status, "type" => kind.as_str())
            .increment(records);
        }
    }
}

fn verdict(
    read: Result<MovementResult, String>,
    settling: &mut impl Iterator<Item = Settling>,
) -> Verdict {
    let result = match read {
        Ok(result) => result,
        Err(reason) => return Verdict::DeadLetter(reason),
    };
    match settling.next() {
        Some(Settling::Settled(_) | Settling::Already) => Verdict::Done(None),
        Some(Settling::Refused(contradiction)) => {
            Verdict::DeadLetter(format!("record {}: {contradiction}", result.record_id))
        }
        Some(Settling::Unknown) | None => {
            Verdict::DeadLetter(format!("there is no record {}", result.record_id))
        }
    }
}

/// The result in a message, or why it is none.
fn read(delivery: &Delivery) -> Result<MovementResult, String> {
    let result: MovementResult = serde_json::from_slice(&delivery.payload)
        .map_err(|error| format!("not a result: {error}"))?;
    if result.kind.result_subject() == delivery.subject {
        Ok(result)
    } else {
        Err(format!("a result of a {} on the subject {}", result.kind, delivery.subject))
    }
}
