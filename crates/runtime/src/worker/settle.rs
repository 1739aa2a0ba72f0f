//! What is done with each delivery of a batch, once and for all: publish and
//! ack, dead letter and term, or hand back.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{AckKind, Message};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    Delivery, Failure, Handler, Pause, Verdict, Worker, dead_letter::DeadLetter, delivery::place,
};
use crate::{
    crash, nats,
    publish::{Outgoing, publish_all},
    trace::Processed,
};

/// A message that is handed back comes again after this, not at once: a short
/// fault would burn all its deliveries in milliseconds.
const HAND_BACK: Duration = Duration::from_secs(1);

/// A store that has not answered by then is taken to be away: its connection
/// may be to a machine that is no more.
const LONGEST_DECISION: Duration = Duration::from_secs(30);

/// Messages, and as a handler sees them.
#[derive(Clone, Copy)]
struct Batch<'a> {
    messages: &'a [Message],
    deliveries: &'a [Delivery],
}

impl<'a> Batch<'a> {
    /// Each by itself.
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

impl<H: Handler> Worker<H> {
    /// Takes a batch to its end. While it lasts, the server is told that the
    /// messages are being worked on.
    pub(super) async fn settle(&self, batch: Vec<Message>, stop: &CancellationToken) {
        // Beside the work, never instead of it: telling may take as long as a reconnect.
        let keep_alive = async {
            loop {
                tokio::time::sleep(self.consumer.ack_wait / 3).await;
                self.tell_all(batch.iter(), AckKind::Progress).await;
            }
        };
        tokio::select! {
            () = self.work_through(&batch, stop) => {}
            () = keep_alive => {}
        }
    }

    async fn work_through(&self, messages: &[Message], stop: &CancellationToken) {
        crash::point("worker.fetched", &(self.consumer.name, messages));
        let now = SystemTime::now();
        let deliveries: Vec<_> = messages.iter().map(|it| Delivery::of(it, now)).collect();
        let again = deliveries.iter().filter(|it| it.number > 1).count();
        metrics::counter!("passbook_redeliveries_total", "consumer" => self.consumer.name)
            .increment(u64::try_from(again).unwrap_or(u64::MAX));
        let batch = Batch { messages, deliveries: &deliveries };
        match self.decide(batch, stop).await {
            Decided::Verdicts(verdicts) => self.carry_out(batch, verdicts, stop).await,
            Decided::Stopped => self.hand_back(batch, "the process stops").await,
            Decided::Failed(error) if messages.len() == 1 => self.fail(batch, &error, stop).await,
            Decided::Failed(error) => {
                // One bad message must not hold up the others: each for itself.
                tracing::warn!(
                    consumer = self.consumer.name,
                    messages = messages.len(),
                    error = format!("{error:#}"),
                    "a batch failed; taking its messages one by one"
                );
                for one in batch.one_by_one() {
                    match self.decide(one, stop).await {
                        Decided::Verdicts(verdicts) => self.carry_out(one, verdicts, stop).await,
                        Decided::Stopped => self.hand_back(one, "the process stops").await,
                        Decided::Failed(error) => self.fail(one, &error, stop).await,
                    }
                    crash::point("worker.one-by-one", &(self.consumer.name, one.messages));
                }
            }
        }
    }

    /// Asks the handler, again and again while a store is away.
    async fn decide(&self, batch: Batch<'_>, stop: &CancellationToken) -> Decided {
        let messages = batch.messages.len();
        let mut pause = Pause::default();
        loop {
            let processed =
                tokio::time::timeout(LONGEST_DECISION, self.handler.process(batch.deliveries));
            let processed = processed.await.unwrap_or_else(|_| {
                let error = anyhow::anyhow!("no outcome after {LONGEST_DECISION:?}");
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
                        "can't process now; keeping the batch"
                    );
                    if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return Decided::Stopped;
                    }
                }
            }
        }
    }

    /// Publishes what the verdicts ask for, and then, PubAck in hand, acks.
    async fn carry_out(&self, batch: Batch<'_>, verdicts: Vec<Verdict>, stop: &CancellationToken) {
        let in_hand = (self.consumer.name, batch.messages);
        crash::point("worker.decided", &in_hand);
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
            && let Some(armed) = crash::armed("worker.half-acked", &in_hand)
        {
            self.tell_all(half.iter().copied(), AckKind::Ack).await;
            nats::flush(&self.client).await;
            armed.crash();
        }
        self.tell_all(done.iter().copied(), AckKind::Ack).await;
        crash::point("worker.acked", &in_hand);
        join_all(dead.iter().map(|message| message.double_ack_with(AckKind::Term))).await;
        self.count("done", done.len());
        self.count("dead_letter", dead.len());
        for (delivery, error) in ended {
            self.record(delivery, error);
        }
    }

    /// Records the span of a delivery that was settled.
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

    /// Publishes until every message has its PubAck; `false` if `stop` came
    /// before.
    async fn publish(&self, mut outgoing: Vec<Outgoing>, stop: &CancellationToken) -> bool {
        let mut pause = Pause::default();
        while let Err(missing) = publish_all(&self.jetstream, &outgoing).await {
            let wait = pause.next();
            tracing::warn!(
                consumer = self.consumer.name,
                messages = missing.positions.len(),
                ?wait,
                reason = missing.reason,
                "results were not acknowledged; publishing them again"
            );
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return false;
            }
            let positions: BTreeSet<_> = missing.positions.into_iter().collect();
            let mut at = 0..;
            outgoing.retain(|_| at.next().is_some_and(|at| positions.contains(&at)));
        }
        true
    }

    /// Deals with one message that the handler failed on: again later, or, at
    /// its last delivery, a dead letter.
    async fn fail(&self, batch: Batch<'_>, error: &anyhow::Error, stop: &CancellationToken) {
        let Some(delivery) = batch.deliveries.first() else { return };
        let delivered = delivery.number;
        delivery.trace.log_span().in_scope(|| {
            tracing::error!(
                consumer = self.consumer.name,
                delivered,
                error = format!("{error:#}"),
                "a message can't be processed"
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
        self.tell_all(batch.messages.iter(), AckKind::Nak(Some(HAND_BACK))).await;
        self.count("handed_back", batch.messages.len());
        for delivery in batch.deliveries {
            self.record(delivery, Some(format!("handed back: {why}")));
        }
    }

    /// Without an answer: one that is lost costs a redelivery.
    async fn tell_all(&self, messages: impl Iterator<Item = &Message>, kind: AckKind) {
        for message in messages {
            if let Err(error) = message.ack_with(kind).await {
                tracing::debug!(consumer = self.consumer.name, %error, ?kind, "not told");
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
        dead.because(reason, self.client.server_info().max_payload)
    }

    pub(super) fn count(&self, verdict: &'static str, messages: usize) {
        metrics::counter!("passbook_worker_messages_total",
            "consumer" => self.consumer.name, "verdict" => verdict)
        .increment(u64::try_from(messages).unwrap_or(u64::MAX));
    }
}
