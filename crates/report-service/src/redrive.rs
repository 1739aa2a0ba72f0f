//! Keeps the queue in agreement with the rows, in every replica, once a second.
//!
//! - A RUNNING report whose lease is over is lost. It is QUEUED again, or FAILED.
//! - Times that the database's clock wrote while it was ahead are shortened.
//! - The stream must hold a message for each due report. Missing ones are sent
//!   again: after a wipe of the broker, after a failed attempt, after a lost PubAck.
//! - A delivered message whose worker takes no report is settled, because no other one is
//!   delivered meanwhile. The worker has no database. Or it was killed, and the broker's
//!   clock went back: the broker redelivers nothing for as long.
//!
//! Messages are counted, not matched: a message wakes a worker, and the worker takes
//! the oldest due report. A message too many costs one look at the database.

use std::time::{Duration, Instant};

use anyhow::Context;
use async_nats::{
    connection::State as Connection,
    jetstream::consumer::{Consumer, Info, pull},
};
use contract::ReportQueue;
use runtime::postgres::PgPool;
use runtime::{
    failpoint, nats::publish::publish_all, postgres::limited, tasks::sleep_unless_stopped,
    telemetry::trace::Trace, worker::WorkQueue,
};
use tokio_util::sync::CancellationToken;

use crate::{job::Tries, store, telemetry, wake, worker::ExhaustedJobs};

/// The interval between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Maximum messages of a round.
const MAX_MESSAGES: i64 = 100;

/// The redrive of one replica.
#[derive(Debug)]
pub struct Redrive {
    /// The database with the reports.
    pub pool: PgPool,
    /// The names and limits of the queue.
    pub queue: ReportQueue,
    /// The queue itself.
    pub messages: WorkQueue<ExhaustedJobs>,
    /// The limits of attempts.
    pub tries: Tries,
    /// The duration of a lease.
    pub lease: Duration,
}

impl Redrive {
    /// Runs rounds until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut idle = None;
        while sleep_unless_stopped(EVERY, &stop).await {
            let Some(round) = stop.run_until_cancelled(self.run_once(idle)).await else { return };
            idle = round.unwrap_or_else(|error| {
                metrics::counter!("passbook_report_redrive_errors_total").increment(1);
                tracing::warn!(error = format!("{error:#}"), "a redrive round failed; retrying");
                None
            });
        }
    }

    /// Runs one round. `idle` is the idle delivery of the round before.
    ///
    /// # Errors
    /// If the database or the broker is unavailable.
    async fn run_once(&self, idle: Option<Idle>) -> anyhow::Result<Option<Idle>> {
        let capped = limited(store::cap_times(&self.pool, self.lease)).await??;
        if capped > 0 {
            tracing::warn!(
                rows = capped,
                "shortened times in the future: the database's clock was ahead when they were written"
            );
        }
        let lost = limited(store::expire_lost(&self.pool, self.tries)).await??;
        for (id, kind, next) in lost {
            tracing::warn!(report.id = %id, state = %next.state, failures = next.failures,
                "a report lost its worker");
            telemetry::ended_attempt(&kind, "LOST", next.state, None);
        }
        let due = limited(store::due(&self.pool)).await??;
        telemetry::record_queue(&due);
        if due.due == 0 || self.messages.client.connection_state() != Connection::Connected {
            return Ok(None);
        }
        let consumer: Consumer<pull::Config> = self
            .messages
            .jetstream
            .get_consumer_from_stream(self.queue.consumer, self.queue.stream)
            .await?;
        let info = consumer.cached_info();
        let idle = Idle::now(info, due.running, idle);
        if idle.is_some_and(|idle| idle.since.elapsed() > self.queue.ack_wait) {
            tracing::warn!(
                message = info.delivered.stream_sequence,
                "reports are due, and the worker with the message takes none: settling the message"
            );
            let reason = "delivered, and its worker took no report";
            self.messages.settle_until(info.delivered.stream_sequence, reason).await?;
            return Ok(None);
        }
        let missing = due.due.saturating_sub(deliverable(info)?).min(MAX_MESSAGES);
        if missing > 0 {
            self.send(missing).await?;
        }
        Ok(idle)
    }

    async fn send(&self, missing: i64) -> anyhow::Result<()> {
        let claimed = limited(store::claim_unsent(&self.pool, missing)).await??;
        failpoint::point("report.redrive-claimed", &claimed);
        // A message id of its own, because the stream ignores a repeated one.
        let message = |(id, send): &(_, i32)| {
            wake::message(self.queue.subject, *id, format!("{id}.{send}"), Trace::begin())
        };
        let messages: Vec<_> = claimed.iter().map(message).collect();
        metrics::counter!("passbook_report_redrives_total")
            .increment(u64::try_from(messages.len()).unwrap_or_default());
        if let Err(unacknowledged) = publish_all(&self.messages.jetstream, &messages).await {
            tracing::warn!(
                reports = unacknowledged.positions.len(),
                reason = unacknowledged.reason,
                "report messages got no PubAck; sending them again"
            );
            let unsent = unacknowledged.positions.iter().filter_map(|at| claimed.get(*at));
            let unsent: Vec<_> = unsent.map(|(id, _)| *id).collect();
            limited(store::set_unsent(&self.pool, &unsent)).await??;
        }
        Ok(())
    }
}

/// A delivery that is unacked while reports are due and none runs.
#[derive(Debug, Clone, Copy)]
struct Idle {
    /// The number of the delivery.
    delivery: u64,
    since: Instant,
}

impl Idle {
    fn now(info: &Info, running: i64, before: Option<Self>) -> Option<Self> {
        if running > 0 || info.num_ack_pending == 0 {
            return None;
        }
        let delivery = info.delivered.consumer_sequence;
        let same = before.filter(|before| before.delivery == delivery);
        Some(same.unwrap_or_else(|| Self { delivery, since: Instant::now() }))
    }
}

/// The number of messages that can still be delivered.
fn deliverable(info: &Info) -> anyhow::Result<i64> {
    let pending = i64::try_from(info.num_pending).context("the number of messages")?;
    Ok(pending.saturating_add(i64::try_from(info.num_ack_pending)?))
}
