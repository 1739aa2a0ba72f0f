//! Keeps the queue in agreement with the rows, in every replica, once a second.
//!
//! - A RUNNING report whose lease is over is lost. It is QUEUED again, or FAILED.
//! - Times that the database's clock wrote while it was ahead are shortened.
//! - The stream must hold a message for each due report. Missing ones are sent
//!   again: after a wipe of the broker, after a failed attempt, after a lost PubAck.
//!
//! Messages are counted, not matched: a message wakes a worker, and the worker takes
//! the oldest due report. A message too many costs one look at the database.

use std::time::Duration;

use anyhow::Context;
use async_nats::{
    Client,
    connection::State as Connection,
    jetstream::{
        self,
        consumer::{Consumer, pull},
    },
};
use contract::ReportQueue;
use runtime::postgres::PgPool;
use runtime::{
    failpoint, nats::publish::publish_all, postgres::limited, tasks::sleep_unless_stopped,
    telemetry::trace::Trace,
};
use tokio_util::sync::CancellationToken;

use crate::{job::Tries, store, telemetry, wake};

/// The interval between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Maximum messages of a round.
const MAX_MESSAGES: i64 = 100;

/// The redrive of one replica.
#[derive(Debug)]
pub struct Redrive {
    /// The database with the reports.
    pub pool: PgPool,
    /// The connection, to check its state.
    pub client: Client,
    /// Counts and sends messages.
    pub jetstream: jetstream::Context,
    /// The queue.
    pub queue: ReportQueue,
    /// The limits of attempts.
    pub tries: Tries,
    /// The duration of a lease.
    pub lease: Duration,
}

impl Redrive {
    /// Runs rounds until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while sleep_unless_stopped(EVERY, &stop).await {
            if let Some(Err(error)) = stop.run_until_cancelled(self.run_once()).await {
                metrics::counter!("passbook_report_redrive_errors_total").increment(1);
                tracing::warn!(error = format!("{error:#}"), "a redrive round failed; retrying");
            }
        }
    }

    /// Runs one round.
    ///
    /// # Errors
    /// If the database or the broker is unavailable.
    pub async fn run_once(&self) -> anyhow::Result<()> {
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
        if due.due == 0 || self.client.connection_state() != Connection::Connected {
            return Ok(());
        }
        let missing = due.due.saturating_sub(self.messages().await?).min(MAX_MESSAGES);
        if missing > 0 {
            self.send(missing).await?;
        }
        Ok(())
    }

    /// The number of messages that can still be delivered.
    async fn messages(&self) -> anyhow::Result<i64> {
        let consumer: Consumer<pull::Config> =
            self.jetstream.get_consumer_from_stream(self.queue.consumer, self.queue.stream).await?;
        let info = consumer.cached_info();
        let pending = i64::try_from(info.num_pending).context("the number of messages")?;
        Ok(pending.saturating_add(i64::try_from(info.num_ack_pending)?))
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
        if let Err(unacknowledged) = publish_all(&self.jetstream, &messages).await {
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
