//! Redrives PENDING records: sends their commands again after a crash between commit
//! and publish, an outage of the broker, or a loss of its messages.
//!
//! The primary key finds old PENDING records, because record ids are ordered by
//! time. Two scans share the work. The young scan covers the records above a
//! low-water mark, repeatedly, and raises the mark. The mark is a guess: a commit
//! can become visible late, and clocks differ. The old scan therefore covers all
//! records below the mark, slowly and over and over. Each round reads a bounded number of
//! records, whatever the size of the history.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use async_nats::{
    Client,
    connection::State,
    jetstream::{self, consumer::pull},
};
use contract::{RecordId, STANDARD, TRANSACTION, consumers};
use runtime::postgres::PgPool;
use runtime::{
    failpoint,
    nats::publish::publish_all,
    tasks::sleep_unless_stopped,
    telemetry::{
        metrics::{count, float},
        trace::Trace,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{dispatch, store};

/// The pause between rounds, unless there is more to send.
const EVERY: Duration = Duration::from_secs(2);
/// Time limit for a round: the database host may have vanished.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// Maximum commands sent in a round.
const MAX_COMMANDS: u16 = 2000;
/// Maximum records that the young scan reads in a round.
const YOUNG_ROWS: u32 = 100_000;
/// Maximum records that the old scan reads in a round: five million records take
/// 17 minutes.
const OLD_ROWS: u32 = 10_000;
/// Maximum records in a round that only counts, because nothing can be sent. More
/// than the number of records accepted between two rounds.
const COUNTED_ROWS: u32 = 30_000;
/// Maximum lag from a record's id to the moment when its commit becomes visible: the
/// wait for a connection, the statement, and clock skew. Records with a longer lag
/// are left to the old scan.
const COMMIT_LAG: Duration = Duration::from_secs(30);
/// The young scan restarts at the mark after this time, or at once if it found
/// PENDING records. A restart finds records that became visible behind its position.
const RESTART_EVERY: Duration = Duration::from_secs(10);
/// No redrive while one of the backlogs has more messages than this. A larger backlog of
/// commands means that the ledger is behind or down, so more commands would not help.
/// A larger backlog of results means the same of this service.
const MAX_BACKLOG: u64 = 2_000;

/// The redrive of one replica.
#[derive(Debug)]
pub struct Redrive {
    pool: PgPool,
    client: Client,
    jetstream: jetstream::Context,
    /// The age of a PENDING record at its first redrive.
    after: Duration,
    /// Maximum commands of a message.
    most: u8,
    /// The low-water mark: the old scan covers lower ids.
    mark: RecordId,
    /// The position of the young scan.
    young: RecordId,
    /// When the young scan last started at the mark.
    began: Instant,
    /// PENDING records seen by the current young scan.
    seen: PendingSeen,
    /// PENDING records seen by the last complete young scan.
    last_seen: PendingSeen,
    /// The position of the old scan.
    old: RecordId,
}

impl Redrive {
    /// Starts with the mark at the first record: all records are young.
    #[must_use]
    pub fn new(
        pool: PgPool,
        (client, jetstream): (Client, jetstream::Context),
        after: Duration,
        most: u8,
    ) -> Self {
        let first = RecordId::FIRST;
        let began = Instant::now();
        let (mark, young, old) = (first, first, first);
        let (seen, last_seen) = (PendingSeen::default(), PendingSeen::default());
        Self { pool, client, jetstream, after, most, mark, young, began, seen, last_seen, old }
    }

    /// Runs rounds until `stop`. Errors of the database and the broker are logged
    /// and retried.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = EVERY;
        while sleep_unless_stopped(pause, &stop).await {
            pause = EVERY;
            let begun = Instant::now();
            let round = tokio::time::timeout(ROUND_LIMIT, self.run_once());
            let round = round
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("no end within {ROUND_LIMIT:?}")));
            metrics::histogram!("passbook_redrive_round_seconds")
                .record(begun.elapsed().as_secs_f64());
            match round {
                Ok(Round { sent: 0, more: false }) => {}
                Ok(Round { sent, more }) => {
                    if sent > 0 {
                        tracing::info!(records = sent, "redrove PENDING records");
                    }
                    if more {
                        pause = Duration::ZERO;
                    }
                }
                Err(error) => {
                    metrics::counter!("passbook_redrive_errors_total").increment(1);
                    tracing::warn!(error = format!("{error:#}"), "a redrive round failed");
                }
            }
            self.record_metrics();
        }
    }

    /// One round of both scans. While nothing can be sent, only the young scan runs,
    /// and only counts: the number of PENDING records matters most then.
    ///
    /// # Errors
    /// An error of the database or the broker. Claimed records become due again.
    async fn run_once(&mut self) -> anyhow::Result<Round> {
        let room = self.has_room().await;
        if !matches!(room, Ok(true)) {
            self.scan_young(COUNTED_ROWS, None).await?;
            return room.map(|_| Round { sent: 0, more: false });
        }
        let (mut sent, more) = self.scan_young(YOUNG_ROWS, Some(MAX_COMMANDS)).await?;
        sent += self.scan_old().await?;
        Ok(Round { sent, more })
    }

    /// Whether the broker is connected and the backlogs are small.
    async fn has_room(&self) -> anyhow::Result<bool> {
        if self.client.connection_state() != State::Connected {
            return Ok(false);
        }
        let stream = self.jetstream.get_stream(TRANSACTION).await.context("reading the backlog")?;
        let commands = stream.cached_info().state.messages;
        Ok(commands <= MAX_BACKLOG && self.result_backlog().await <= MAX_BACKLOG)
    }

    /// Undelivered results; 0 if the consumer does not exist yet.
    async fn result_backlog(&self) -> u64 {
        let Some(spec) = STANDARD.consumer(consumers::ACCOUNT_RESULT) else { return 0 };
        let consumer = self
            .jetstream
            .get_consumer_from_stream::<pull::Config, _, _>(spec.name, spec.stream)
            .await;
        consumer.map_or(0, |consumer| consumer.cached_info().num_pending)
    }

    async fn scan_young(&mut self, most: u32, limit: Option<u16>) -> anyhow::Result<(usize, bool)> {
        let now = SystemTime::now();
        let before = |age| RecordId::lowest_at(now.checked_sub(age).unwrap_or(now));
        let due = before(self.after);
        let found = store::find_pending(&self.pool, self.young, due, most, limit).await?;
        let sent = self.send(&found.records).await?;
        self.seen.count += found.count;
        self.seen.oldest = self.seen.oldest.or(found.oldest);
        match found.next {
            Some(next) => self.young = next,
            // Continuing at the end reads each record once. A restart reads all of them again.
            None if self.seen.oldest.is_none() && self.began.elapsed() < RESTART_EVERY => {
                self.young = due;
                self.last_seen = self.seen;
            }
            None => {
                self.last_seen = std::mem::take(&mut self.seen);
                // The mark may also move back: a clock that was set back must not hide records.
                let safe = before(COMMIT_LAG.max(self.after) + RESTART_EVERY);
                self.mark = self.last_seen.oldest.map_or(safe, |oldest| oldest.min(safe));
                self.young = self.mark;
                self.began = Instant::now();
            }
        }
        Ok((sent, found.next.is_some()))
    }

    async fn scan_old(&mut self) -> anyhow::Result<usize> {
        let found =
            store::find_pending(&self.pool, self.old, self.mark, OLD_ROWS, Some(MAX_COMMANDS))
                .await?;
        let sent = self.send(&found.records).await?;
        self.old = found.next.unwrap_or(RecordId::FIRST);
        Ok(sent)
    }

    /// Sets the gauges: PENDING records older than `after`, as seen by the last
    /// complete young scan, or by the current one if it has seen more. A record
    /// that appears below the mark is not counted until the process restarts;
    /// `passbook verify` finds it.
    ///
    /// The age keeps growing while the database is unreachable.
    fn record_metrics(&self) {
        let count = self.seen.count.max(self.last_seen.count);
        let oldest = self.last_seen.oldest.into_iter().chain(self.seen.oldest).min();
        let age = oldest.and_then(|id| SystemTime::now().duration_since(id.made_at()).ok());
        metrics::gauge!("passbook_records_pending").set(float(count));
        metrics::gauge!("passbook_records_pending_oldest_seconds")
            .set(age.unwrap_or_default().as_secs_f64());
    }

    async fn send(&self, records: &[RecordId]) -> anyhow::Result<usize> {
        if records.is_empty() {
            return Ok(0);
        }
        let claimed = store::claim_for_redrive(&self.pool, records, self.after)
            .await
            .context("claiming PENDING records")?;
        failpoint::point("redrive.claimed", &claimed);
        let messages = claimed
            .iter()
            .map(|claimed| {
                // A message id of its own, because the stream ignores a repeated id within its
                // duplicate window.
                let id = format!("{}.{}", claimed.record.id, claimed.attempt);
                let trace = claimed.trace.unwrap_or_else(Trace::begin);
                let mut message =
                    dispatch::message(&claimed.record.command(), id, trace, claimed.trace)?;
                // The second redrive of a record goes alone: if its command crashes or fails the
                // workers, the records beside it settle without it.
                message.sharing = (claimed.attempt <= 1).then_some(dispatch::sharing(self.most));
                Ok(message)
            })
            .collect::<serde_json::Result<Vec<_>>>()?;
        metrics::counter!("passbook_redrives_total").increment(count(messages.len()));
        if let Err(missing) = publish_all(&self.jetstream, &messages).await {
            tracing::warn!(
                commands = missing.positions.len(),
                reason = missing.reason,
                "commands got no PubAck; they become due again"
            );
        }
        Ok(messages.len())
    }
}

/// PENDING records that a scan has seen.
#[derive(Debug, Clone, Copy, Default)]
struct PendingSeen {
    count: u64,
    oldest: Option<RecordId>,
}

/// The work of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    /// Commands sent.
    sent: usize,
    /// Whether the young scan has records left to read.
    more: bool,
}
