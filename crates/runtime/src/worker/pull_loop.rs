//! The loop that pulls messages. No error of the broker ends it.
//!
//! It is a plain loop of short fetches. The client's endless message stream was
//! rejected: it can stall for half a minute after an outage.

use std::{
    future::Future,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use async_nats::{
    Client,
    connection::State,
    jetstream::{self, Message},
};
use backon::BackoffBuilder;
use contract::{ConsumerSpec, StreamSpec};
use tokio_util::sync::CancellationToken;

use super::pull::{PullError, Pulled, Puller, Request};
use crate::{
    health::Health,
    nats::streams::{self, StreamsError},
    tasks::sleep_unless_stopped,
    telemetry::metrics::{count, float},
};

/// How often the loop checks the connection.
const CHECK_CONNECTION_EVERY: Duration = Duration::from_millis(100);

/// Maximum messages of the first fetch. Each may have a hundred parts.
const FIRST_FETCH: u16 = 16;
/// By how much the next fetch may be larger than the last batch.
const GROWTH: usize = 4;

/// Delay of the next fetch per part of a batch, so that more parts share a batch. Parts
/// that arrive more often than this lengthen the delay, others shorten it: only a busy
/// replica waits for the longest.
const DELAY_PER_PART: Duration = Duration::from_micros(200);
/// The shortest delay, about the time to process a batch. It keeps a fast replica
/// from fetching batches of two messages.
const SHORTEST_DELAY: Duration = Duration::from_millis(6);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_millis(25);

/// A consumer counts as missing after this time without an answer.
const GONE_AFTER: Duration = Duration::from_secs(6);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Processes fetched messages and settles their deliveries. It returns once
/// every message is acked, terminated or handed back.
pub trait ProcessMessages: Send + Sync {
    /// Processes one batch. After `stop` it stops retrying and returns soon. Returns the
    /// number of parts that the messages have.
    fn process(
        &self,
        messages: Vec<Message>,
        stop: &CancellationToken,
    ) -> impl Future<Output = usize> + Send;

    /// Work between two fetches, once a second or more often. The last call is after `stop`.
    fn idle(&self, _stop: &CancellationToken) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Maximum bytes of a fetch, so that memory does not depend on the size of messages. Usual
/// messages reach the maximum number first. A larger message is fetched alone.
const MAX_FETCH_BYTES: usize = 4 * 1024 * 1024;

/// The size of the next fetch.
struct FetchSize {
    messages: u16,
    /// The next message is larger than a fetch: it is fetched alone, whatever its size.
    is_alone: bool,
}

/// The bounds of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Fetch {
    /// Maximum messages.
    pub max_messages: u16,
    /// How long it waits for a first message.
    pub wait: Duration,
}

/// The pull loop of one consumer.
#[derive(Debug)]
pub struct PullLoop {
    /// The connection, to check its state.
    pub client: Client,
    /// The context to fetch with.
    pub jetstream: jetstream::Context,
    /// The consumer.
    pub consumer: &'static ConsumerSpec,
    /// Its stream.
    pub stream: &'static StreamSpec,
    /// Replicas of the stream, if it must be created.
    pub stream_replicas: u8,
    /// The bounds of a fetch.
    pub fetch: Fetch,
    /// Has a condition named after the consumer: up while pulls are answered.
    pub health: Health,
}

impl PullLoop {
    /// Pulls and processes until `stop`, and finishes the last batch.
    ///
    /// # Errors
    /// If the stream or consumer exists with a configuration that can't be
    /// changed in place.
    pub async fn run(
        self,
        processor: impl ProcessMessages,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut puller =
            Puller::new(self.client.clone(), self.jetstream.clone(), self.consumer).await?;
        let mut is_open = false;
        let mut pause = Pause::default();
        let mut unanswered = None;
        let messages = self.fetch.max_messages.min(FIRST_FETCH);
        let mut size = FetchSize { messages, is_alone: false };
        while !stop.is_cancelled() {
            if self.client.connection_state() != State::Connected {
                self.health.set(self.consumer.name, Some("not connected to NATS".to_owned()));
                sleep_unless_stopped(CHECK_CONNECTION_EVERY * 2, &stop).await;
                continue;
            }
            if !is_open {
                self.open(&stop).await?;
                is_open = true;
                self.health.set(self.consumer.name, None);
                continue;
            }
            // On the heap: the compiler limits how deeply futures may be nested.
            Box::pin(processor.idle(&stop)).await;
            let connects = self.connects();
            let once = Box::pin(self.run_once(&mut puller, connects, &mut size, &processor, &stop));
            match once.await {
                Ok(()) => {
                    pause.reset();
                    unanswered = None;
                    self.health.set(self.consumer.name, None);
                }
                Err(error) => {
                    tracing::warn!(consumer = self.consumer.name, %error, "fetching failed");
                    let since = *unanswered.get_or_insert_with(Instant::now);
                    // The consumer may have been deleted: look it up, and create it if it is missing.
                    // But a lost connection does not indicate a deletion, and during a leader election
                    // nothing answers, including the lookup.
                    let lost = self.connects() != connects
                        || self.client.connection_state() != State::Connected;
                    let may_be_election =
                        matches!(error, PullError::NoConsumer) && since.elapsed() < GONE_AFTER;
                    if !lost && !may_be_election {
                        (is_open, unanswered) = (false, None);
                    }
                    metrics::counter!("passbook_worker_fetch_errors_total", "consumer" => self.consumer.name)
                        .increment(1);
                    self.health.set(self.consumer.name, Some(error.to_string()));
                    sleep_unless_stopped(pause.next(), &stop).await;
                }
            }
        }
        Box::pin(processor.idle(&stop)).await;
        Ok(())
    }

    /// Ensures that the consumer exists.
    async fn open(&self, stop: &CancellationToken) -> Result<(), StreamsError> {
        streams::ensure_eventually(
            &self.jetstream,
            &[self.stream],
            &[self.consumer],
            self.stream_replicas,
            stop,
        )
        .await
    }

    /// How often the client has connected.
    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Returns once this connection is lost, after a further 100 ms for messages
    /// already received.
    async fn disconnected(&self, connects: u64) {
        while self.client.connection_state() == State::Connected && self.connects() == connects {
            tokio::time::sleep(CHECK_CONNECTION_EVERY).await;
        }
        tokio::time::sleep(CHECK_CONNECTION_EVERY).await;
    }

    /// Fetches and processes one batch. A pull is not cancelled: its messages would have to
    /// wait for the next pull. Only a pull on a lost connection is abandoned.
    async fn run_once(
        &self,
        puller: &mut Puller,
        connects: u64,
        size: &mut FetchSize,
        processor: &impl ProcessMessages,
        stop: &CancellationToken,
    ) -> Result<(), PullError> {
        let request = match size {
            FetchSize { is_alone: true, .. } => {
                Request { messages: 1, bytes: None, wait: self.fetch.wait }
            }
            FetchSize { messages, .. } => {
                Request { messages: *messages, bytes: Some(MAX_FETCH_BYTES), wait: self.fetch.wait }
            }
        };
        let mut pulled = Pulled::default();
        tokio::select! {
            () = puller.pull(request, &mut pulled) => {}
            () = self.disconnected(connects) => {
                pulled.error = Some(PullError::Disconnected);
            }
        }
        let Pulled { messages: batch, is_too_large, error: failed } = pulled;
        let was_alone = std::mem::replace(&mut size.is_alone, is_too_large && batch.is_empty());
        if !batch.is_empty() {
            metrics::histogram!("passbook_worker_batch_messages", "consumer" => self.consumer.name)
                .record(float(count(batch.len())));
            let (fetched, messages) = (Instant::now(), batch.len());
            let is_full = is_too_large || was_alone || messages >= usize::from(size.messages);
            let parts = processor.process(batch, stop).await;
            size.messages = fetch_size(messages, parts, self.fetch.max_messages);
            // A full fetch leaves more behind: the next one follows at once.
            let delay =
                if is_full { Duration::ZERO } else { fetch_delay(parts, self.fetch.max_messages) };
            let next = fetched + delay;
            let _ = stop.run_until_cancelled(tokio::time::sleep_until(next.into())).await;
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The messages to ask for, after a batch with these parts: about `most` parts. A larger
/// fetch would only keep messages from the other replicas. The size grows in steps,
/// because the next messages may have more parts.
fn fetch_size(messages: usize, parts: usize, most: u16) -> u16 {
    let wanted = usize::from(most).saturating_mul(messages).div_ceil(parts.max(1));
    let size = wanted.min(messages.saturating_mul(GROWTH).max(FIRST_FETCH.into()));
    u16::try_from(size).unwrap_or(most).clamp(1, most)
}

/// The delay from one fetch to the next, so that parts accumulate: one large batch takes
/// less time than many small ones. A single part causes no delay. Neither does a full
/// batch, because the backlog is then larger than a batch.
fn fetch_delay(parts: usize, most: u16) -> Duration {
    if parts <= 1 || parts >= usize::from(most) {
        return Duration::ZERO;
    }
    let parts = u32::try_from(parts).unwrap_or(u32::MAX);
    DELAY_PER_PART.saturating_mul(parts).clamp(SHORTEST_DELAY, LONGEST_DELAY)
}

/// The pause between failed attempts: backoff from 100 ms to [`LONGEST_PAUSE`], with
/// jitter.
#[derive(Default)]
pub(super) struct Pause(Option<backon::ExponentialBackoff>);

impl Pause {
    pub(super) fn next(&mut self) -> Duration {
        let backoff = self.0.get_or_insert_with(|| streams::unlimited_backoff().build());
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
    fn a_fetch_asks_for_as_many_parts_as_fit_a_batch() {
        let sizes = [(500, 500), (10, 1000), (1, 100), (3, 150), (0, 0), (500, 50_000)]
            .map(|(messages, parts)| fetch_size(messages, parts, 500));
        assert_eq!(sizes, [500, 5, 5, 10, 1, 5]);
        assert_eq!(fetch_size(10, 1000, 10), 1);
        // Singles: the size grows in steps.
        let growing = [1, 16, 64, 256].map(|messages| fetch_size(messages, messages, 500));
        assert_eq!(growing, [16, 64, 256, 500]);
    }

    #[test]
    fn only_a_batch_that_is_not_full_delays_the_next_fetch() {
        let waits = [0, 1, 2, 30, 40, 124, 125, 126, 499].map(|parts| fetch_delay(parts, 500));
        let expected = [0, 0, 6_000, 6_000, 8_000, 24_800, 25_000, 25_000, 25_000];
        assert_eq!(waits, expected.map(Duration::from_micros));
        assert_eq!([500, 501].map(|parts| fetch_delay(parts, 500)), [Duration::ZERO; 2]);
    }
}
