//! Decides a batch of messages: unpacks them into deliveries, and asks the handler for
//! a verdict about each. `settlement` carries the verdicts out.

use std::{
    future::Future,
    ops::Range,
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_nats::{
    Client,
    jetstream::{self, AckKind, Message},
};
use contract::ConsumerSpec;
use tokio_util::sync::CancellationToken;

use super::{
    Delivery, Failure, Handler, Verdict,
    delivery::Received,
    kept::{Kept, KeptMessages},
    pull_loop::{Pause, ProcessMessages},
    unstored::UnstoredLetters,
};
use crate::{failpoint, tasks::sleep_unless_stopped, telemetry::metrics::count};

/// Maximum deliveries that a handler decides at once, unless a single message has more.
/// It bounds the statements, whatever the number of parts in the messages.
const MAX_DECIDED: usize = 1000;

/// Decides batches by a [`Handler`] and settles their messages.
#[derive(Debug)]
pub struct BatchProcessor<H> {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    pub(super) consumer: &'static ConsumerSpec,
    pub(super) kept: KeptMessages,
    handler: Arc<H>,
    pub(super) unstored: Arc<UnstoredLetters>,
}

/// A fetched message and its parts.
#[derive(Debug)]
pub(super) struct Fetched<'a> {
    pub(super) message: &'a Message,
    pub(super) content: Content,
    /// Whether parts of it were done before, while others were kept.
    pub(super) is_part_done: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    /// The positions of its deliveries among those of its batch.
    Parts(Range<usize>),
    /// A bundle that is invalid as a whole, and the reason.
    Invalid(Box<Delivery>, String),
}

/// The decision about one delivery.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are results, in one allocation a batch")]
pub(super) enum Fate {
    Verdict(Verdict),
    /// The handler failed with this delivery alone.
    Failed(anyhow::Error),
    /// A row or key of this delivery is locked by another transaction.
    Locked,
    /// The process stops.
    Undecided,
}

enum Decided {
    Verdicts(Vec<Verdict>),
    Failed(anyhow::Error),
    Locked(anyhow::Error),
    Stopped,
}

impl<H: Handler> ProcessMessages for BatchProcessor<H> {
    /// `Progress` extends the `ack_wait` of the messages during processing.
    async fn process(&self, batch: Vec<Message>, stop: &CancellationToken) -> usize {
        let messages: Vec<_> = batch.iter().collect();
        self.in_progress(&messages, self.settle_all(&batch, stop)).await.unwrap_or(0)
    }

    /// Tries the kept messages again, or hands them back after a stop.
    async fn idle(&self, stop: &CancellationToken) {
        if stop.is_cancelled() {
            return self.hand_back_kept().await;
        }
        let due = self.kept.due_for_progress(self.consumer.ack_wait / 3);
        self.ack_all(due.iter(), AckKind::Progress).await;
        let kept = self.kept.take_due();
        if kept.is_empty() {
            return;
        }
        let begun = Instant::now();
        let messages: Vec<_> = kept.iter().map(|kept| &kept.message).collect();
        self.in_progress(&messages, self.settle_kept(&kept, stop)).await;
        self.kept.attempted(kept.len(), begun.elapsed());
    }
}

impl<H: Handler> BatchProcessor<H> {
    /// A processor for the deliveries of this consumer.
    #[must_use]
    pub fn new(
        client: Client,
        jetstream: jetstream::Context,
        consumer: &'static ConsumerSpec,
        handler: Arc<H>,
        unstored: Arc<UnstoredLetters>,
    ) -> Self {
        let kept = KeptMessages::new(consumer.name);
        let processor = Self { client, jetstream, consumer, kept, handler, unstored };
        processor.start_counters_at_zero();
        processor
    }

    /// A counter that starts at zero shows its first event as an increase.
    fn start_counters_at_zero(&self) {
        let consumer = self.consumer.name;
        for metric in [
            "passbook_dead_letters_total",
            "passbook_redeliveries_total",
            "passbook_worker_fetch_errors_total",
        ] {
            metrics::counter!(metric, "consumer" => consumer).increment(0);
        }
        for verdict in ["done", "dead_letter", "handed_back"] {
            self.count(verdict, 0, 0);
        }
    }

    /// Does the work, and keeps these messages and the kept ones in progress meanwhile. The
    /// two are concurrent, because sending can block for as long as a reconnect.
    async fn in_progress<T>(
        &self,
        messages: &[&Message],
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let every = self.consumer.ack_wait / 3;
        let keep_alive = async {
            loop {
                tokio::time::sleep(every).await;
                self.ack_all(messages.iter().copied(), AckKind::Progress).await;
                let kept = self.kept.due_for_progress(every);
                self.ack_all(kept.iter(), AckKind::Progress).await;
            }
        };
        tokio::select! {
            done = work => Some(done),
            () = keep_alive => None,
        }
    }

    /// Settles kept messages, at most [`MAX_DECIDED`] deliveries at once.
    async fn settle_kept(&self, kept: &[Kept], stop: &CancellationToken) {
        let (mut batch, mut deliveries) = (Vec::new(), Vec::new());
        for Kept { message, undecided, is_part_done } in kept {
            if !deliveries.is_empty() && deliveries.len() + undecided.len() > MAX_DECIDED {
                self.settle(&batch, &deliveries, stop).await;
                batch.clear();
                deliveries.clear();
            }
            let first = deliveries.len();
            deliveries.extend(undecided.iter().cloned());
            let content = Content::Parts(first..deliveries.len());
            batch.push(Fetched { message, content, is_part_done: *is_part_done });
        }
        self.settle(&batch, &deliveries, stop).await;
    }

    /// Settles the messages, at most [`MAX_DECIDED`] deliveries at once. Returns their
    /// number of parts.
    async fn settle_all(&self, messages: &[Message], stop: &CancellationToken) -> usize {
        failpoint::point("worker.fetched", &(self.consumer.name, messages));
        let now = SystemTime::now();
        let received = messages.iter().map(|message| Received::fetched(message, now));
        let redelivered = received.clone().filter(|received| received.number > 1).count();
        metrics::counter!("passbook_redeliveries_total", "consumer" => self.consumer.name)
            .increment(count(redelivered));
        let mut total = 0;
        let (mut batch, mut deliveries) = (Vec::new(), Vec::new());
        for (message, received) in messages.iter().zip(received) {
            let content = match received.parts(self.consumer.bundle) {
                Ok(parts) => {
                    if !deliveries.is_empty() && deliveries.len() + parts.len() > MAX_DECIDED {
                        self.settle(&batch, &deliveries, stop).await;
                        batch.clear();
                        deliveries.clear();
                    }
                    total += parts.len();
                    let first = deliveries.len();
                    deliveries.extend(parts);
                    Content::Parts(first..deliveries.len())
                }
                Err(invalid) => Content::Invalid(Box::new(received.whole()), invalid.to_string()),
            };
            batch.push(Fetched { message, content, is_part_done: false });
        }
        self.settle(&batch, &deliveries, stop).await;
        total
    }

    async fn settle(
        &self,
        batch: &[Fetched<'_>],
        deliveries: &[Delivery],
        stop: &CancellationToken,
    ) {
        let fates = self.decide_all(deliveries, stop).await;
        let kept = self.carry_out(batch, deliveries, fates, stop).await;
        self.kept.add(kept);
    }

    /// Decides the deliveries together. If that fails, half of them at a time: one bad
    /// delivery must not affect the others.
    async fn decide_all(&self, deliveries: &[Delivery], stop: &CancellationToken) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(deliveries.len());
        let mut open: Vec<_> = (!deliveries.is_empty()).then_some(deliveries).into_iter().collect();
        while let Some(part) = open.pop() {
            match self.decide(part, stop).await {
                Decided::Verdicts(verdicts) => {
                    fates.extend(verdicts.into_iter().map(Fate::Verdict))
                }
                Decided::Stopped => fates.extend(part.iter().map(|_| Fate::Undecided)),
                Decided::Failed(error) if part.len() == 1 => fates.push(Fate::Failed(error)),
                Decided::Locked(_) if part.len() == 1 => fates.push(Fate::Locked),
                Decided::Failed(error) | Decided::Locked(error) => {
                    tracing::warn!(
                        consumer = self.consumer.name,
                        deliveries = part.len(),
                        error = format!("{error:#}"),
                        "a batch failed; processing each half of it alone"
                    );
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                    continue;
                }
            }
            if part.len() < deliveries.len() {
                failpoint::point("worker.part-decided", &(self.consumer.name, part));
            }
        }
        fates
    }

    /// Runs the handler, and retries while a store is unreachable.
    async fn decide(&self, deliveries: &[Delivery], stop: &CancellationToken) -> Decided {
        let mut pause = Pause::default();
        loop {
            let processed = tokio::time::timeout(H::TIME_LIMIT, self.handler.process(deliveries));
            let processed = processed.await.unwrap_or_else(|_| {
                let error = anyhow::anyhow!("no verdicts within {:?}", H::TIME_LIMIT);
                Err(Failure::Transient(error))
            });
            match processed {
                Ok(verdicts) if verdicts.len() == deliveries.len() => {
                    return Decided::Verdicts(verdicts);
                }
                Ok(verdicts) => {
                    let (verdicts, deliveries) = (verdicts.len(), deliveries.len());
                    let error = anyhow::anyhow!("{verdicts} verdicts for {deliveries} deliveries");
                    return Decided::Failed(error);
                }
                Err(Failure::Other(error)) => return Decided::Failed(error),
                Err(Failure::Locked(error)) => return Decided::Locked(error),
                Err(Failure::Transient(error)) => {
                    let wait = pause.next();
                    tracing::warn!(
                        consumer = self.consumer.name,
                        deliveries = deliveries.len(),
                        ?wait,
                        error = format!("{error:#}"),
                        "the batch can't be processed now; retrying"
                    );
                    if !sleep_unless_stopped(wait, stop).await {
                        return Decided::Stopped;
                    }
                }
            }
        }
    }
}
