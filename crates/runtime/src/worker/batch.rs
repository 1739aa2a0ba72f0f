//! Settles a batch: each delivery is published and acked, dead-lettered and
//! terminated, or handed back.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{
    Client,
    jetstream::{self, AckKind, Message},
};
use contract::ConsumerSpec;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    Delivery, Failure, Handler, Verdict,
    dead_letter::DeadLetter,
    delivery::place,
    pull_loop::{Pause, ProcessMessages},
};
use crate::{
    failpoint,
    nats::{
        connection,
        publish::{Outgoing, publish_all},
    },
    tasks::sleep_unless_stopped,
    telemetry::{metrics::count, trace::Processed},
};

/// A message that is handed back is redelivered after this delay. Without a delay, a
/// short fault would use up all deliveries within milliseconds.
const HAND_BACK_DELAY: Duration = Duration::from_secs(1);

/// Decides batches by a [`Handler`] and settles their deliveries.
#[derive(Debug)]
pub struct BatchProcessor<H> {
    client: Client,
    jetstream: jetstream::Context,
    consumer: &'static ConsumerSpec,
    handler: Arc<H>,
}

/// The messages of a batch, and the same messages as the handler sees them.
#[derive(Clone, Copy)]
struct Batch<'a> {
    messages: &'a [Message],
    deliveries: &'a [Delivery],
}

impl<'a> Batch<'a> {
    /// Batches of one message each.
    fn one_by_one(self) -> impl Iterator<Item = Self> {
        let deliveries = self.deliveries.chunks(1);
        let both = self.messages.chunks(1).zip(deliveries);
        both.map(|(messages, deliveries)| Self { messages, deliveries })
    }

    fn iter(self) -> impl Iterator<Item = (&'a Message, &'a Delivery)> {
        self.messages.iter().zip(self.deliveries)
    }
}

enum Decided {
    Verdicts(Vec<Verdict>),
    Failed(anyhow::Error),
    Stopped,
}

impl<H: Handler> ProcessMessages for BatchProcessor<H> {
    /// `Progress` extends the `ack_wait` of the messages during processing.
    async fn process(&self, batch: Vec<Message>, stop: &CancellationToken) {
        // Concurrent with the work, because sending can block for as long as a reconnect.
        let keep_alive = async {
            loop {
                tokio::time::sleep(self.consumer.ack_wait / 3).await;
                self.ack_all(batch.iter(), AckKind::Progress).await;
            }
        };
        tokio::select! {
            () = self.settle(&batch, stop) => {}
            () = keep_alive => {}
        }
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
    ) -> Self {
        let processor = Self { client, jetstream, consumer, handler };
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
            self.count(verdict, 0);
        }
    }

    async fn settle(&self, messages: &[Message], stop: &CancellationToken) {
        failpoint::point("worker.fetched", &(self.consumer.name, messages));
        let now = SystemTime::now();
        let deliveries: Vec<_> =
            messages.iter().map(|message| Delivery::new(message, now)).collect();
        let redelivered = deliveries.iter().filter(|delivery| delivery.number > 1).count();
        metrics::counter!("passbook_redeliveries_total", "consumer" => self.consumer.name)
            .increment(count(redelivered));
        let batch = Batch { messages, deliveries: &deliveries };
        match self.decide(batch, stop).await {
            Decided::Verdicts(verdicts) => self.carry_out(batch, verdicts, stop).await,
            Decided::Stopped => self.hand_back(batch, "the process stops").await,
            Decided::Failed(error) if messages.len() == 1 => self.fail(batch, &error, stop).await,
            Decided::Failed(error) => {
                // One bad message must not delay the others: each is processed alone.
                tracing::warn!(
                    consumer = self.consumer.name,
                    messages = messages.len(),
                    error = format!("{error:#}"),
                    "a batch failed; processing its messages one by one"
                );
                for one in batch.one_by_one() {
                    match self.decide(one, stop).await {
                        Decided::Verdicts(verdicts) => self.carry_out(one, verdicts, stop).await,
                        Decided::Stopped => self.hand_back(one, "the process stops").await,
                        Decided::Failed(error) => self.fail(one, &error, stop).await,
                    }
                    failpoint::point("worker.one-by-one", &(self.consumer.name, one.messages));
                }
            }
        }
    }

    /// Runs the handler, and retries while a store is unreachable.
    async fn decide(&self, batch: Batch<'_>, stop: &CancellationToken) -> Decided {
        let messages = batch.messages.len();
        let mut pause = Pause::default();
        loop {
            let processed =
                tokio::time::timeout(H::TIME_LIMIT, self.handler.process(batch.deliveries));
            let processed = processed.await.unwrap_or_else(|_| {
                let error = anyhow::anyhow!("no verdicts within {:?}", H::TIME_LIMIT);
                Err(Failure::Transient(error))
            });
            match processed {
                Ok(verdicts) if verdicts.len() == messages => {
                    return Decided::Verdicts(verdicts);
                }
                Ok(verdicts) => {
                    let error =
                        anyhow::anyhow!("{} verdicts for {messages} messages", verdicts.len());
                    return Decided::Failed(error);
                }
                Err(Failure::Other(error)) => return Decided::Failed(error),
                Err(Failure::Transient(error)) => {
                    let wait = pause.next();
                    tracing::warn!(
                        consumer = self.consumer.name,
                        messages,
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

    /// Publishes the messages of the verdicts, awaits their PubAcks, then acks.
    async fn carry_out(&self, batch: Batch<'_>, verdicts: Vec<Verdict>, stop: &CancellationToken) {
        let data = (self.consumer.name, batch.messages);
        failpoint::point("worker.decided", &data);
        let mut done = Vec::new();
        let mut dead = Vec::new();
        let mut outgoing = Vec::new();
        let mut ended = Vec::new();
        for ((message, delivery), verdict) in batch.iter().zip(verdicts) {
            match verdict {
                Verdict::Done(publish) => {
                    done.push(message);
                    outgoing.extend(publish);
                    ended.extend(delivery.trace.is_recorded().then_some((delivery, None)));
                }
                Verdict::DeadLetter(reason) => {
                    outgoing.push(self.dead_letter(message, delivery, &reason));
                    dead.push(message);
                    ended.push((delivery, Some(reason)));
                }
            }
        }
        if !self.publish(outgoing, stop).await {
            return self.hand_back(batch, "the process stops").await;
        }
        if let (half @ [_, ..], _) = done.split_at(done.len() / 2)
            && let Some(armed) = failpoint::armed("worker.half-acked", &data)
        {
            self.ack_all(half.iter().copied(), AckKind::Ack).await;
            connection::flush(&self.client).await;
            armed.crash();
        }
        self.ack_all(done.iter().copied(), AckKind::Ack).await;
        failpoint::point("worker.acked", &data);
        join_all(dead.iter().map(|message| message.double_ack_with(AckKind::Term))).await;
        self.count("done", done.len());
        self.count("dead_letter", dead.len());
        for (delivery, error) in ended {
            self.record(delivery, error);
        }
    }

    /// Records the span of a settled delivery.
    fn record(&self, delivery: &Delivery, error: Option<String>) {
        if delivery.trace.is_recorded() {
            delivery.trace.processed(Processed {
                begun: delivery.begun,
                consumer: self.consumer.name,
                subject: &delivery.subject,
                message_id: &delivery.message_id,
                delivered: delivery.number,
                error,
            });
        }
    }

    /// Publishes until every message has its PubAck; `false` if stopped before.
    async fn publish(&self, mut outgoing: Vec<Outgoing>, stop: &CancellationToken) -> bool {
        let mut pause = Pause::default();
        while let Err(missing) = publish_all(&self.jetstream, &outgoing).await {
            let wait = pause.next();
            tracing::warn!(
                consumer = self.consumer.name,
                messages = missing.positions.len(),
                ?wait,
                reason = missing.reason,
                "messages got no PubAck; publishing them again"
            );
            if !sleep_unless_stopped(wait, stop).await {
                return false;
            }
            let positions: BTreeSet<_> = missing.positions.into_iter().collect();
            let mut at = 0..;
            outgoing.retain(|_| at.next().is_some_and(|at| positions.contains(&at)));
        }
        true
    }

    /// Settles one message after a failure of the handler. The message is redelivered
    /// later, or dead-lettered at its last delivery.
    async fn fail(&self, batch: Batch<'_>, error: &anyhow::Error, stop: &CancellationToken) {
        let Some(delivery) = batch.deliveries.first() else { return };
        let delivered = delivery.number;
        delivery.trace.log_span().in_scope(|| {
            tracing::error!(
                consumer = self.consumer.name,
                delivered,
                error = format!("{error:#}"),
                "processing a message failed"
            );
        });
        if self.consumer.max_deliver > 0 && delivered >= self.consumer.max_deliver {
            let reason = format!("failed {delivered} times: {error:#}");
            self.carry_out(batch, vec![Verdict::DeadLetter(reason)], stop).await;
        } else {
            self.hand_back(batch, &format!("{error:#}")).await;
        }
    }

    async fn hand_back(&self, batch: Batch<'_>, why: &str) {
        self.ack_all(batch.messages.iter(), AckKind::Nak(Some(HAND_BACK_DELAY))).await;
        self.count("handed_back", batch.messages.len());
        for delivery in batch.deliveries {
            self.record(delivery, Some(format!("handed back: {why}")));
        }
    }

    /// Sends acks without awaiting a reply: a lost ack costs a redelivery.
    async fn ack_all(&self, messages: impl Iterator<Item = &Message>, kind: AckKind) {
        for message in messages {
            if let Err(error) = message.ack_with(kind).await {
                tracing::debug!(consumer = self.consumer.name, %error, ?kind, "sending an ack failed");
            }
        }
    }

    fn dead_letter(&self, message: &Message, delivery: &Delivery, reason: &str) -> Outgoing {
        let dead = DeadLetter {
            consumer: self.consumer,
            place: place(message),
            subject: &message.subject,
            trace: delivery.trace,
            headers: message.headers.as_ref(),
            payload: &message.payload,
        };
        dead.message(reason, self.client.server_info().max_payload)
    }

    fn count(&self, verdict: &'static str, messages: usize) {
        metrics::counter!("passbook_worker_messages_total",
            "consumer" => self.consumer.name, "verdict" => verdict)
        .increment(count(messages));
    }
}
