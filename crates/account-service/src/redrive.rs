//! Redrives PENDING records: sends their commands again after a crash between commit
//! and publish, an outage of the broker, or a loss of its messages.
//!
//! The records come from a list (`store::window`). One replica at a time moves the window
//! of ids with the time, and lists what is still PENDING in the range that it leaves. Each
//! record is read once, soon after it was accepted; the history is never read again.
//! All replicas work through the list.

use std::{
    ops::Range,
    time::{Duration, Instant, SystemTime},
};

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
    postgres::limited,
    tasks::sleep_unless_stopped,
    telemetry::{
        metrics::{count, float},
        trace::Trace,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    dispatch,
    store::{self, Leave, Listed},
};

/// The pause between rounds, unless there is more to send.
const EVERY: Duration = Duration::from_secs(2);
/// Time limit for a round: the database host may have vanished.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for the rest of a round after a request to stop: the database may be gone.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// Maximum commands sent in a round.
const MAX_COMMANDS: u16 = 2000;
/// Maximum listed records that a round reads.
const LISTED_ROWS: u32 = 20_000;
/// Maximum records that a round reads because the window leaves them.
const LEFT_ROWS: u32 = 100_000;
/// Time limit for the next redrive of a command that the broker refused. Together with the pause
/// between rounds, it bounds the cost of commands that are refused for as long as nobody acts.
const REFUSED_AGAIN: Duration = Duration::from_secs(20);
/// How far the window reaches ahead of the database's clock. An id further ahead is listed
/// when it is inserted, which costs two more writes. An id inside is listed once the window
/// leaves it: a minute late at most, if its clock was ahead.
const AHEAD: Duration = Duration::from_secs(60);
/// The window of an idle service moves when it reaches less far ahead than this.
const LEAST_AHEAD: Duration = Duration::from_secs(30);
/// If the window can't move for this long, its records are listed all the same: a
/// transaction does not end, or the history takes long.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// After this time, the window's transactions are waited for anew. A database restored from
/// a backup counts its transactions from a lower number.
const FENCE_AGAIN: Duration = Duration::from_secs(60);
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
    /// The window that this replica saw last.
    seen: Option<SeenWindow>,
    /// Where the next round reads the list.
    position: RecordId,
    /// PENDING records in the part of the list that was read.
    pending: PendingSeen,
    /// PENDING records of the last complete list.
    last_pending: PendingSeen,
}

impl Redrive {
    /// Nothing is known about the window or the list.
    #[must_use]
    pub fn new(
        pool: PgPool,
        (client, jetstream): (Client, jetstream::Context),
        after: Duration,
        most: u8,
    ) -> Self {
        let (pending, last_pending) = (PendingSeen::default(), PendingSeen::default());
        let (seen, position) = (None, RecordId::FIRST);
        Self { pool, client, jetstream, after, most, seen, position, pending, last_pending }
    }

    /// Runs rounds until `stop`. Errors of the database and the broker are logged
    /// and retried.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = EVERY;
        while sleep_unless_stopped(pause, &stop).await {
            pause = EVERY;
            let begun = Instant::now();
            let round = tokio::select! {
                round = self.run_once() => round,
                limit = round_limit(&stop) => {
                    Err(anyhow::anyhow!("no end within {limit:?}"))
                }
            };
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

    /// One round: moves the window, and redrives what is listed. While nothing can be sent,
    /// the list is only counted. An error about the window does not delay the list.
    ///
    /// # Errors
    /// An error of the database or the broker. Claimed records become due again.
    async fn run_once(&mut self) -> anyhow::Result<Round> {
        let moved = limited(self.move_window()).await;
        let room = self.has_room().await;
        let limit = if matches!(room, Ok(true)) { MAX_COMMANDS } else { 0 };
        let sent = self.redrive_listed(limit).await?;
        let more = moved.context("moving the window")?.context("moving the window")?;
        room.map(|_| Round { sent, more: more || sent >= usize::from(MAX_COMMANDS) })
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

    /// Moves the window, unless another replica does, or the service is idle. Returns
    /// whether it has left more records than a round reads.
    async fn move_window(&mut self) -> anyhow::Result<bool> {
        let view = store::find_window(&self.pool).await?;
        let inside = &view.window.inside;
        let seen = match self.seen.take() {
            Some(seen) if seen.inside == *inside => seen,
            _ => SeenWindow::new(&self.pool, inside).await?,
        };
        let seen = self.seen.insert(seen);
        let next = next_window(view.now, self.after);
        let is_idle = view.window.unread().is_none() && !view.has_records;
        if is_recent(inside, &next) || is_idle && is_wide_enough(inside, view.now) {
            return Ok(false);
        }
        if seen.fenced_at.elapsed() > FENCE_AGAIN {
            seen.fence = store::fence(&self.pool).await?;
            seen.fenced_at = Instant::now();
        }
        let mut outcome = Leave::Busy;
        if view.ended_below >= seen.fence {
            outcome = store::leave(&self.pool, inside, &next, self.after, LEFT_ROWS).await?;
        }
        if outcome == Leave::Moved {
            self.seen = Some(SeenWindow::new(&self.pool, &next).await?);
        } else if seen.since.elapsed() > STALLED_AFTER {
            seen.early = store::list_early(&self.pool, &view.window, seen.early, LEFT_ROWS).await?;
        }
        Ok(outcome == Leave::More)
    }

    /// Reads a part of the list, and redrives up to `limit` of its records.
    async fn redrive_listed(&mut self, limit: u16) -> anyhow::Result<usize> {
        let most = (LISTED_ROWS, limit);
        let listed = store::read_list(&self.pool, self.position, self.after, most).await?;
        self.pending.add(&listed);
        self.position = listed.next.unwrap_or(RecordId::FIRST);
        if listed.next.is_none() {
            self.last_pending = std::mem::take(&mut self.pending);
        }
        self.send(&listed.due).await
    }

    /// Sets the gauges: PENDING records older than `after`, as counted in the last complete
    /// list, or in the current one if it has more.
    ///
    /// The age keeps growing while the database is unreachable.
    fn record_metrics(&self) {
        let count = self.pending.count.max(self.last_pending.count);
        let oldest = self.last_pending.oldest.into_iter().chain(self.pending.oldest).min();
        let age = oldest.map(|since| since.elapsed()).unwrap_or_default();
        metrics::gauge!("passbook_records_pending").set(float(count));
        metrics::gauge!("passbook_records_pending_oldest_seconds").set(age.as_secs_f64());
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
        let Err(missing) = publish_all(&self.jetstream, &messages).await else {
            return Ok(messages.len());
        };
        tracing::warn!(
            commands = missing.positions.len(),
            reason = missing.reason,
            "commands got no PubAck; they become due again"
        );
        let refused: Vec<_> =
            missing.refused.keys().filter_map(|at| Some(claimed.get(*at)?.record.id)).collect();
        if !refused.is_empty() {
            store::redrive_within(&self.pool, &refused, REFUSED_AGAIN)
                .await
                .context("making refused commands due again")?;
        }
        Ok(messages.len() - refused.len())
    }
}

/// Waits until a round must end. Returns its time limit.
async fn round_limit(stop: &CancellationToken) -> Duration {
    if stop.run_until_cancelled(tokio::time::sleep(ROUND_LIMIT)).await.is_some() {
        return ROUND_LIMIT;
    }
    tokio::time::sleep(STOP_LIMIT).await;
    STOP_LIMIT
}

/// A window as this replica saw it.
#[derive(Debug)]
struct SeenWindow {
    inside: Range<RecordId>,
    since: Instant,
    /// Transactions that know an earlier window only have lower ids.
    fence: i64,
    fenced_at: Instant,
    /// Where the next round lists records early.
    early: RecordId,
}

impl SeenWindow {
    /// The fence is taken after the window was seen, so after its commit.
    async fn new(pool: &PgPool, inside: &Range<RecordId>) -> anyhow::Result<Self> {
        let (inside, fence, now) = (inside.clone(), store::fence(pool).await?, Instant::now());
        Ok(Self { inside, since: now, fence, fenced_at: now, early: RecordId::FIRST })
    }
}

/// The window at a time. A record that leaves it is read in the next round, when it has the
/// age for its first redrive.
fn next_window(now: SystemTime, after: Duration) -> Range<RecordId> {
    let behind = after.saturating_sub(EVERY);
    let floor = now.checked_sub(behind).unwrap_or(now);
    RecordId::lowest_at(floor)..RecordId::lowest_at(now + AHEAD)
}

/// Whether another replica has just moved the window.
fn is_recent(inside: &Range<RecordId>, next: &Range<RecordId>) -> bool {
    let moved = next.start.made_at().duration_since(inside.start.made_at());
    moved.is_ok_and(|moved| moved < EVERY * 3 / 4)
}

/// Whether new records are inside for some time to come. Not so after a jump of the
/// database's clock.
fn is_wide_enough(inside: &Range<RecordId>, now: SystemTime) -> bool {
    let [floor, ceiling] = [inside.start, inside.end].map(RecordId::made_at);
    floor <= now && now + LEAST_AHEAD <= ceiling && ceiling <= now + AHEAD + LEAST_AHEAD
}

/// PENDING records in a part of the list.
#[derive(Debug, Clone, Copy, Default)]
struct PendingSeen {
    count: u64,
    /// When the oldest was accepted, on this process's monotonic clock.
    oldest: Option<Instant>,
}

impl PendingSeen {
    fn add(&mut self, listed: &Listed) {
        self.count += listed.count;
        let since = listed.oldest.and_then(|age| Instant::now().checked_sub(age));
        self.oldest = self.oldest.into_iter().chain(since).min();
    }
}

/// The work of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    /// Commands sent, without those that the broker refused.
    sent: usize,
    /// Whether there is more to read or to send.
    more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_stays_while_it_is_recent_or_wide_enough_and_moves_after_a_jump_of_the_clock() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let window = |seconds| next_window(at(seconds), Duration::from_secs(5));
        assert_eq!(window(1_000).start.made_at(), at(997));
        assert_eq!(window(1_000).end.made_at(), at(1_060));
        assert!(is_recent(&window(1_000), &window(1_001)));
        assert!(!is_recent(&window(1_000), &window(1_002)));
        assert!(!is_recent(&window(1_002), &window(1_000)));
        assert!(is_wide_enough(&window(1_000), at(1_030)));
        assert!(!is_wide_enough(&window(1_000), at(1_031)));
        assert!(!is_wide_enough(&window(90_000), at(1_000)));
    }
}
