//! Sends the commands of records again that stay PENDING: after a crash
//! between commit and publish, after the broker was away or lost them.
//!
//! Old PENDING records are found through the primary key, whose ids are in
//! order of time, from a low-water mark on below which nothing is PENDING: the
//! cost does not grow with the history.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use async_nats::{Client, connection::State, jetstream};
use contract::RecordId;
use runtime::{postgres::is_transient, publish::publish_all, trace::Trace};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{dispatch, store};

/// A round's length.
const EVERY: Duration = Duration::from_secs(2);
/// Records a round at most: the rate is bounded, whatever the backlog.
const AT_ONCE: u16 = 1000;
/// An id may be this much older than its commit: the time a request may wait
/// for a connection and a statement, and what clocks differ by.
const COMMIT_LAG: Duration = Duration::from_secs(30);

/// Looks for records to send again.
#[derive(Debug)]
pub struct Redrive {
    /// Where the records are.
    pub pool: PgPool,
    /// To see whether there is any point.
    pub client: Client,
    /// Where the commands go.
    pub jetstream: jetstream::Context,
    /// The age at which a PENDING record is sent again.
    pub after: Duration,
    /// No record with a lower id is PENDING.
    pub mark: RecordId,
}

impl Redrive {
    /// The lowest mark: everything is looked at once.
    #[must_use]
    pub const fn from_the_beginning() -> RecordId {
        RecordId::from_uuid(Uuid::nil())
    }

    /// Works until `stop`.
    ///
    /// # Errors
    /// None of the database or broker; those are tried again.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if self.client.connection_state() != State::Connected {
                continue;
            }
            match self.run_once().await {
                Ok(0) => {}
                Ok(sent) => {
                    tracing::info!(records = sent, "sent the commands of PENDING records again");
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "redrive"),
            }
        }
        Ok(())
    }

    /// One round. Gives how many commands were sent again.
    ///
    /// # Errors
    /// The database's or the broker's; what was claimed comes up again.
    pub async fn run_once(&mut self) -> anyhow::Result<usize> {
        let now = SystemTime::now();
        let due = RecordId::lowest_at(now.checked_sub(self.after).unwrap_or(now));
        let claimed =
            store::claim_for_redrive(&self.pool, self.mark, due, self.after, AT_ONCE).await;
        let claimed = match claimed {
            Err(error) if is_transient(&error) => {
                tracing::debug!(%error, "redrive waits for the database");
                return Ok(0);
            }
            claimed => claimed.context("claiming PENDING records")?,
        };
        let messages = claimed
            .iter()
            .map(|(record, attempt)| {
                // An id of its own: the stream's duplicate window would swallow the record's.
                let id = format!("{}.{attempt}", record.id);
                dispatch::message(&record.command(), id, Trace::of_message(None))
            })
            .collect::<Result<Vec<_>, _>>()?;
        metrics::counter!("passbook_redrives_total")
            .increment(u64::try_from(messages.len()).unwrap_or(u64::MAX));
        if let Err(missing) = publish_all(&self.jetstream, &messages).await {
            tracing::warn!(
                commands = missing.positions.len(),
                reason = missing.reason,
                "commands were not acknowledged; they come up again"
            );
        }
        let settled = RecordId::lowest_at(now.checked_sub(COMMIT_LAG).unwrap_or(now));
        let oldest = store::oldest_pending(&self.pool, self.mark, settled).await?;
        self.mark = oldest.unwrap_or(settled).max(self.mark);
        Ok(messages.len())
    }
}
