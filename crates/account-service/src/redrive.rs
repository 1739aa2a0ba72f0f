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
    /// The oldest PENDING record that it met on its way.
    oldest: Option<RecordId>,
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
        let (mark, young, old, oldest) = (first, first, first, None);
        Self { pool, client, jetstream, after, mark, young, began, oldest, old }
    }

    /// Works until `stop`.
    ///
    /// # Errors
    /// None of the database or broker; those are tried again.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut pause = EVERY;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = EVERY;
            if self.client.connection_state() != State::Connected {
                continue;
            }
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
        }
        Ok(())
    }

    /// One round of both walks.
    ///
    /// # Errors
    /// The database's or the broker's; what was claimed comes up again.
    async fn run_once(&mut self) -> anyhow::Result<Round> {
        let stream =
            self.jetstream.get_stream(TRANSACTION).await.context("looking at the backlog")?;
        let commands = stream.cached_info().state.messages;
        if commands > BACKLOG || self.results_waiting().await > BACKLOG {
            return Ok(Round { sent: 0, more: false });
        }
        let (mut sent, more) = self.walk_young().await?;
        sent += self.walk_old().await?;
        Ok(Round { sent, more })
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

    async fn walk_young(&mut self) -> anyhow::Result<(usize, bool)> {
        let now = SystemTime::now();
        let before = |age| RecordId::lowest_at(now.checked_sub(age).unwrap_or(now));
        let due = before(self.after);
        let found = store::find_pending(&self.pool, self.young, due, YOUNG, AT_ONCE).await?;
        self.oldest = self.oldest.or_else(|| found.records.first().copied());
        let sent = self.send(&found.records).await?;
        match found.next {
            Some(next) => self.young = next,
            // Going on where it ended looks at each record once; going back, at all of them.
            None if self.oldest.is_none() && self.began.elapsed() < AGAIN => self.young = due,
            None => {
                // Also downwards: a clock that was set back must not blind the walk.
                let safe = before(COMMIT_LAG.max(self.after) + AGAIN);
                self.mark = self.oldest.take().map_or(safe, |oldest| oldest.min(safe));
                self.young = self.mark;
                self.began = Instant::now();
            }
        }
        Ok((sent, found.next.is_some()))
    }

    async fn walk_old(&mut self) -> anyhow::Result<usize> {
        let found = store::find_pending(&self.pool, self.old, self.mark, OLD, AT_ONCE).await?;
        let sent = self.send(&found.records).await?;
        self.old = found.next.unwrap_or(RecordId::FIRST);
        Ok(sent)
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
        Ok(messages.len())
    }
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    /// Commands sent again.
    sent: usize,
    /// Whether the young walk has not come to its end.
    more: bool,
}
