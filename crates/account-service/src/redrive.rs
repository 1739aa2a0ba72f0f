//! Sends the commands of records again that stay PENDING: after a crash
//! between commit and publish, after the broker was away or lost them.
//!
//! Old PENDING records are found through the primary key, whose ids are in
//! order of time. Two walks share the work. The young one goes over what came
//! after a low-water mark, again and again, and lifts the mark. The mark is a
//! guess, since a commit can come late and clocks differ; so the old one goes
//! over everything below it, slowly and without an end. Each round looks at a
//! bounded number of records, whatever the history.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use async_nats::{
    Client,
    connection::State,
    jetstream::{self, consumer::pull},
};
use contract::{ConsumerSpec, RecordId, TRANSACTION, consumers};
use runtime::{crash, publish::publish_all, trace::Trace};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{dispatch, store};

/// Between rounds that found little.
const EVERY: Duration = Duration::from_secs(2);
/// A round that takes longer is given up: its database may be no more.
const LONGEST_ROUND: Duration = Duration::from_secs(60);
/// Commands sent in a round at most.
const AT_ONCE: u16 = 2000;
/// Records that the young walk looks at in a round at most.
const YOUNG: u32 = 100_000;
/// The same for the old walk: five million records take 17 minutes.
const OLD: u32 = 10_000;
/// The same for either while nothing can be sent, and they only count: more
/// than are accepted meanwhile.
const COUNTED: u32 = 30_000;
/// An id may be this much older than its commit is visible: what a request may
/// wait for a connection and a statement, and what clocks differ by. What takes
/// longer is left to the old walk.
const COMMIT_LAG: Duration = Duration::from_secs(30);
/// The young walk begins again at the mark after this, or at once while it
/// meets PENDING records: what becomes visible behind it is found then.
const AGAIN: Duration = Duration::from_secs(10);
/// While so many commands wait in the stream, the ledger is behind or away, and
/// more of them would not help; while so many results do, we are.
const BACKLOG: u64 = 20_000;

/// Looks for records to send again.
#[derive(Debug)]
pub struct Redrive {
    pool: PgPool,
    client: Client,
    jetstream: jetstream::Context,
    /// The age at which a PENDING record is sent again.
    after: Duration,
    /// Records with lower ids are the old walk's.
    mark: RecordId,
    /// Where the young walk is.
    young: RecordId,
    /// When it began at the mark.
    began: Instant,
    /// The PENDING records that it met on its way.
    met: Met,
    /// The same of its last way to the end.
    last: Met,
    /// Where the old walk is.
    old: RecordId,
}

impl Redrive {
    /// Begins with all records being young.
    #[must_use]
    pub fn new(
        pool: PgPool,
        client: Client,
        jetstream: jetstream::Context,
        after: Duration,
    ) -> Self {
        let first = RecordId::FIRST;
        let began = Instant::now();
        let (mark, young, old) = (first, first, first);
        let (met, last) = (Met::default(), Met::default());
        Self { pool, client, jetstream, after, mark, young, began, met, last, old }
    }

    /// Works until `stop`.
    ///
    /// # Errors
    /// None of the database or broker; those are tried again.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut pause = EVERY;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = EVERY;
            let begun = Instant::now();
            let round = tokio::time::timeout(LONGEST_ROUND, self.run_once());
            let round = round.await.unwrap_or_else(|_| Err(anyhow::anyhow!("it took too long")));
            metrics::histogram!("passbook_redrive_round_seconds")
                .record(begun.elapsed().as_secs_f64());
            match round {
                Ok(Round { sent: 0, more: false }) => {}
                Ok(Round { sent, more }) => {
                    if sent > 0 {
                        tracing::info!(
                            records = sent,
                            "sent the commands of PENDING records again"
                        );
                    }
                    if more {
                        pause = Duration::ZERO;
                    }
                }
                Err(error) => {
                    metrics::counter!("passbook_redrive_errors_total").increment(1);
                    tracing::warn!(error = format!("{error:#}"), "a round of the redrive failed");
                }
            }
            self.measure();
        }
        Ok(())
    }

    /// One round of both walks. While nothing can be sent, the young one only
    /// counts: how much is PENDING then matters most.
    ///
    /// # Errors
    /// The database's or the broker's; what was claimed comes up again.
    async fn run_once(&mut self) -> anyhow::Result<Round> {
        let room = self.has_room().await;
        if !matches!(room, Ok(true)) {
            self.walk_young(COUNTED, None).await?;
            return room.map(|_| Round { sent: 0, more: false });
        }
        let (mut sent, more) = self.walk_young(YOUNG, Some(AT_ONCE)).await?;
        sent += self.walk_old().await?;
        Ok(Round { sent, more })
    }

    /// Whether the broker is there, and not behind already.
    async fn has_room(&self) -> anyhow::Result<bool> {
        if self.client.connection_state() != State::Connected {
            return Ok(false);
        }
        let stream =
            self.jetstream.get_stream(TRANSACTION).await.context("looking at the backlog")?;
        let commands = stream.cached_info().state.messages;
        Ok(commands <= BACKLOG && self.results_waiting().await <= BACKLOG)
    }

    /// Results that nobody has settled yet; none, if there is nobody to ask.
    async fn results_waiting(&self) -> u64 {
        let Some(spec) = ConsumerSpec::named(consumers::ACCOUNT_RESULT) else { return 0 };
        let consumer = self
            .jetstream
            .get_consumer_from_stream::<pull::Config, _, _>(spec.name, spec.stream)
            .await;
        consumer.map_or(0, |consumer| consumer.cached_info().num_pending)
    }

    async fn walk_young(&mut self, most: u32, limit: Option<u16>) -> anyhow::Result<(usize, bool)> {
        let now = SystemTime::now();
        let before = |age| RecordId::lowest_at(now.checked_sub(age).unwrap_or(now));
        let due = before(self.after);
        let found = store::find_pending(&self.pool, self.young, due, most, limit).await?;
        let sent = self.send(&found.records).await?;
        self.met.count += found.count;
        self.met.oldest = self.met.oldest.or(found.oldest);
        match found.next {
            Some(next) => self.young = next,
            // Going on where it ended looks at each record once; going back, at all of them.
            None if self.met.oldest.is_none() && self.began.elapsed() < AGAIN => {
                self.young = due;
                self.last = self.met;
            }
            None => {
                self.last = std::mem::take(&mut self.met);
                // Also downwards: a clock that was set back must not blind the walk.
                let safe = before(COMMIT_LAG.max(self.after) + AGAIN);
                self.mark = self.last.oldest.map_or(safe, |oldest| oldest.min(safe));
                self.young = self.mark;
                self.began = Instant::now();
            }
        }
        Ok((sent, found.next.is_some()))
    }

    async fn walk_old(&mut self) -> anyhow::Result<usize> {
        let found =
            store::find_pending(&self.pool, self.old, self.mark, OLD, Some(AT_ONCE)).await?;
        let sent = self.send(&found.records).await?;
        self.old = found.next.unwrap_or(RecordId::FIRST);
        Ok(sent)
    }

    /// Tells of the PENDING records that the young walk has met: those that
    /// are older than `after`, as of its last way from the mark to its end, or
    /// of the one that it is on, if that met more. Younger ones are on their
    /// way. One that appears below the mark is not among them, until the
    /// process starts anew; `passbook verify` finds it.
    ///
    /// The age goes on growing while the database is away.
    fn measure(&self) {
        let count = self.met.count.max(self.last.count);
        let oldest = self.last.oldest.into_iter().chain(self.met.oldest).min();
        let age = oldest.and_then(|it| SystemTime::now().duration_since(it.made_at()).ok());
        metrics::gauge!("passbook_records_pending")
            .set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
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
        crash::point("redrive.claimed", &claimed);
        let messages = claimed
            .iter()
            .map(|claimed| {
                // An id of its own: the stream's duplicate window would swallow the record's.
                let id = format!("{}.{}", claimed.record.id, claimed.attempt);
                let trace = claimed.trace.unwrap_or_else(Trace::begin);
                dispatch::message(&claimed.record.command(), id, trace, claimed.trace)
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
        Ok(messages.len())
    }
}

/// PENDING records that a walk met.
#[derive(Debug, Clone, Copy, Default)]
struct Met {
    count: u64,
    oldest: Option<RecordId>,
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    /// Commands sent again.
    sent: usize,
    /// Whether the young walk has not come to its end.
    more: bool,
}
