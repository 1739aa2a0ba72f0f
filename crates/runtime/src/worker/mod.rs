//! The loop that pulls messages from a durable consumer, hands them to a
//! handler in batches and settles each delivery by what became of it.
//!
//! The order is always the same: the handler commits, what it wants published
//! gets its PubAck, and only then is the delivery acked. A process that dies
//! anywhere in between leaves an unacked message, which comes again.
//!
//! A plain loop of short fetches was chosen over the client's endless message
//! stream, which can stall for half a minute after an outage.

mod dead_letter;
mod delivery;
mod settle;
mod sweep;
mod used_up;

use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use async_nats::{
    Client,
    connection::State,
    jetstream::{
        self,
        consumer::{Consumer, pull},
    },
};
use backon::BackoffBuilder;
use contract::ConsumerSpec;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

pub use delivery::Delivery;
pub(crate) use sweep::sweep;
pub use used_up::UsedUp;

use crate::{
    config::WorkerConfig,
    health::Health,
    publish::Outgoing,
    streams::{self, StreamsError},
};

/// How long a fetch waits for a first message.
const FETCH_WAIT: Duration = Duration::from_secs(1);
/// A fetch that took this long was not answered: the client ends it by itself
/// five seconds after its wait.
const UNANSWERED_AFTER: Duration = Duration::from_secs(4);

/// What each message of a batch gives the next batch to gather: the more there
/// are, the less a short wait matters to each.
const GATHERING: Duration = Duration::from_micros(100);
/// The shortest such wait, about what a batch takes to be worked off: it costs
/// nothing where that takes longer, and keeps a replica that is quick from
/// taking messages two by two.
const SHORTEST_GATHERING: Duration = Duration::from_millis(6);
/// The longest such wait.
const LONGEST_GATHERING: Duration = Duration::from_millis(12);

/// A consumer for which nobody answered so long is gone, or its stream is.
const GONE_AFTER: Duration = Duration::from_secs(6);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What became of one message.
#[derive(Debug)]
pub enum Verdict {
    /// Decided and committed, or already decided: publish this, then ack.
    Done(Option<Outgoing>),
    /// It will never succeed: keep it as a dead letter with this reason.
    DeadLetter(String),
}

/// Why a batch has no verdicts. What was committed of it all the same is
/// answered from the store when the batch comes again.
#[derive(Debug)]
pub enum Failure {
    /// A store is away or busy: the same batch will do later.
    Transient(anyhow::Error),
    /// Something is wrong with a message, or with us.
    Other(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Transient(error) | Self::Other(error)) = self;
        write!(f, "{error:#}")
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if crate::postgres::is_transient(&error) {
            Self::Transient(error.into())
        } else {
            Self::Other(error.into())
        }
    }
}

/// Decides messages.
pub trait Handler: Send + Sync + 'static {
    /// Decides all messages of a batch and commits, or commits nothing. Gives
    /// one verdict a message, in their order.
    fn process(
        &self,
        batch: &[Delivery],
    ) -> impl Future<Output = Result<Vec<Verdict>, Failure>> + Send;
}

/// One consumer's loop.
pub struct Worker<H> {
    /// The connection, to see whether it is up.
    pub client: Client,
    /// The context to fetch and publish with.
    pub jetstream: jetstream::Context,
    /// Which consumer.
    pub consumer: &'static ConsumerSpec,
    /// Copies of its stream, should it have to be made again.
    pub stream_replicas: u8,
    /// Batch size.
    pub config: WorkerConfig,
    /// Where the loop says whether its pulls are answered; the condition has
    /// the consumer's name.
    pub health: Health,
    /// Who decides.
    pub handler: Arc<H>,
}

impl<H: Handler> Worker<H> {
    /// Pulls and processes until `stop`; then finishes what is in hand. No
    /// error of the broker or a store ends it.
    ///
    /// # Errors
    /// If the stream or consumer exists with a configuration that can't be
    /// changed in place.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        self.count_from_zero();
        let mut consumer = None;
        let mut pause = Pause::default();
        let mut unanswered = None;
        while !stop.is_cancelled() {
            if self.client.connection_state() != State::Connected {
                self.health.set(self.consumer.name, Some("not connected to NATS".to_owned()));
                let _ = stop.run_until_cancelled(tokio::time::sleep(FETCH_WAIT / 5)).await;
                continue;
            }
            let Some(source) = &consumer else {
                consumer = self.open(&stop).await?;
                if consumer.is_some() {
                    self.health.set(self.consumer.name, None);
                }
                continue;
            };
            let connects = self.connects();
            match self.run_once(source, connects, &stop).await {
                Ok(()) => {
                    pause.reset();
                    unanswered = None;
                    self.health.set(self.consumer.name, None);
                }
                Err(error) => {
                    tracing::warn!(consumer = self.consumer.name, %error, "fetching failed");
                    let since = *unanswered.get_or_insert_with(Instant::now);
                    // It may be gone: look it up again, and make it again. A lost connection says
                    // nothing about it, and while a leader is elected nobody answers, least of
                    // all who is asked for it.
                    let lost = self.connects() != connects
                        || self.client.connection_state() != State::Connected;
                    let elected = is_unanswered(&error) && since.elapsed() < GONE_AFTER;
                    if !lost && !elected {
                        (consumer, unanswered) = (None, None);
                    }
                    metrics::counter!("passbook_worker_fetch_errors_total", "consumer" => self.consumer.name)
                        .increment(1);
                    self.health.set(self.consumer.name, Some(error));
                    let _ = stop.run_until_cancelled(tokio::time::sleep(pause.next())).await;
                }
            }
        }
        Ok(())
    }

    async fn open(
        &self,
        stop: &CancellationToken,
    ) -> Result<Option<Consumer<pull::Config>>, StreamsError> {
        let stream = contract::StreamSpec::named(self.consumer.stream);
        let streams: Vec<_> = stream.into_iter().collect();
        streams::ensure_eventually(
            &self.jetstream,
            &streams,
            &[self.consumer],
            self.stream_replicas,
            stop,
        )
        .await?;
        let found =
            self.jetstream.get_consumer_from_stream(self.consumer.name, self.consumer.stream).await;
        Ok(found.inspect_err(|error| tracing::warn!(%error, "the consumer is not there")).ok())
    }

    /// What has not happened yet is to be seen, too: the first of a kind would
    /// be missed by whoever asks for an increase.
    fn count_from_zero(&self) {
        let consumer = self.consumer.name;
        for metric in [
            "passbook_dead_letters_total",
            "passbook_redeliveries_total",
            "passbook_worker_fetch_errors_total",
        ] {
            metrics::counter!(metric, "consumer" => consumer).increment(0);
        }
        for verdict in ["done", "dead_letter", "handed_back"] {
            self.count(verdict, 0);
        }
    }

    /// How often the client has connected so far.
    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Returns when the connection that was there is no more, and long enough
    /// after that for all that it brought to be read.
    async fn disconnected(&self, connects: u64) {
        while self.client.connection_state() == State::Connected && self.connects() == connects {
            tokio::time::sleep(FETCH_WAIT / 10).await;
        }
        tokio::time::sleep(FETCH_WAIT / 10).await;
    }

    /// One fetch and what came of it. A fetch is never cut short: a message
    /// that arrives for nobody would be missing until its ack wait is over.
    /// Only a pull whose connection is lost is given up: the client would go on
    /// waiting for five seconds, and nothing comes of it any more.
    async fn run_once(
        &self,
        consumer: &Consumer<pull::Config>,
        connects: u64,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let begun = Instant::now();
        let mut fetched = consumer
            .fetch()
            .max_messages(usize::from(self.config.worker_batch))
            .expires(FETCH_WAIT)
            .messages()
            .await
            .map_err(|error| error.to_string())?;
        let mut batch = Vec::new();
        let mut failed = None;
        loop {
            tokio::select! {
                message = fetched.next() => match message {
                    Some(Ok(message)) => batch.push(message),
                    Some(Err(error)) => failed = Some(error.to_string()),
                    None => break,
                },
                () = self.disconnected(connects) => {
                    failed = Some("the connection was lost in the middle of a pull".to_owned());
                    break;
                }
            }
        }
        if batch.is_empty() && begun.elapsed() > UNANSWERED_AFTER {
            failed = failed.or_else(|| Some("a pull was not answered".to_owned()));
        }
        if !batch.is_empty() {
            metrics::histogram!("passbook_worker_batch_messages", "consumer" => self.consumer.name)
                .record(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
            let next = Instant::now() + gathering(batch.len(), self.config.worker_batch);
            self.settle(batch, stop).await;
            let _ = stop.run_until_cancelled(tokio::time::sleep_until(next.into())).await;
        }
        failed.map_or(Ok(()), Err)
    }
}

/// How long after a fetch of so many messages, of `most`, the next one waits,
/// for messages to gather: many are sooner done at once than few at a time.
/// Nothing after a message that was alone, and nothing while there are more
/// than a batch takes.
fn gathering(messages: usize, most: u16) -> Duration {
    if messages <= 1 || messages >= usize::from(most) {
        return Duration::ZERO;
    }
    let messages = u32::try_from(messages).unwrap_or(u32::MAX);
    GATHERING.saturating_mul(messages).clamp(SHORTEST_GATHERING, LONGEST_GATHERING)
}

/// Whether nobody listens where the pull went. The client tells the server's
/// status as text only.
fn is_unanswered(error: &str) -> bool {
    error.contains(": 503")
}

/// A pause that grows while things go wrong, from 100 ms on.
#[derive(Default)]
struct Pause(Option<backon::ExponentialBackoff>);

impl Pause {
    fn next(&mut self) -> Duration {
        let backoff = self.0.get_or_insert_with(|| streams::forever().build());
        backoff.next().map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
    }

    fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_fetch_waits_only_after_several_messages_that_were_all() {
        let waits = [0, 1, 2, 60, 80, 119, 120, 121, 499].map(|messages| gathering(messages, 500));
        let expected = [0, 0, 6_000, 6_000, 8_000, 11_900, 12_000, 12_000, 12_000];
        assert_eq!(waits, expected.map(Duration::from_micros));
        assert_eq!([500, 501].map(|messages| gathering(messages, 500)), [Duration::ZERO; 2]);
    }
}
