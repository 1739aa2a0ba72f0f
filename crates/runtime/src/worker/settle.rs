//! What is done with each delivery of a batch, once and for all: publish and
//! ack, dead letter and term, or hand back.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::{AckKind, Message};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    Delivery, Failure, Handler, Pause, Verdict, Worker, dead_letter::DeadLetter, delivery::place,
};
use crate::{
    crash, nats,
    publish::{Outgoing, publish_all},
};

/// A message that is handed back comes again after this, not at once: a short
/// fault would burn all its deliveries in milliseconds.
const HAND_BACK: Duration = Duration::from_secs(1);

/// A store that has not answered by then is taken to be away: its connection
/// may be to a machine that is no more.
const LONGEST_DECISION: Duration = Duration::from_secs(30);

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

    async fn work_through(&self, batch: &[Message], stop: &CancellationToken) {
        crash::point("worker.fetched", &(self.consumer.name, batch));
        let again = batch.iter().filter(|message| delivered(message) > 1).count();
        metrics::counter!("passbook_redeliveries_total", "consumer" => self.consumer.name)
            .increment(u64::try_from(again).unwrap_or(u64::MAX));
        match self.decide(batch, stop).await {
            Decided::Verdicts(verdicts) => self.carry_out(batch, verdicts, stop).await,
            Decided::Stopped => self.hand_back(batch).await,
            Decided::Failed(error) if batch.len() == 1 => self.fail(batch, &error, stop).await,
            Decided::Failed(error) => {
                // One bad message must not hold up the others: each for itself.
                tracing::warn!(
                    consumer = self.consumer.name,
                    messages = batch.len(),
                    error = format!("{error:#}"),
                    "a batch failed; taking its messages one by one"
                );
                for message in batch {
                    let message = std::slice::from_ref(message);
                    match self.decide(message, stop).await {
                        Decided::Verdicts(verdicts) => {
                            self.carry_out(message, verdicts, stop).await
                        }
                        Decided::Stopped => self.hand_back(message).await,
                        Decided::Failed(error) => self.fail(message, &error, stop).await,
                    }
                    crash::point("worker.one-by-one", &(self.consumer.name, message));
                }
            }
        }
    }

    /// Asks the handler, again and again while a store is away.
    async fn decide(&self, batch: &[Message], stop: &CancellationToken) -> Decided {
        let deliveries: Vec<_> = batch.iter().map(Delivery::of).collect();
        let mut pause = Pause::default();
        loop {
            let processed =
                tokio::time::timeout(LONGEST_DECISION, self.handler.process(&deliveries));
            let processed = processed.await.unwrap_or_else(|_| {
                let error = anyhow::anyhow!("no outcome after {LONGEST_DECISION:?}");
                Err(Failure::Transient(error))
            });
            match processed {
                Ok(verdicts) if verdicts.len() == batch.len() => {
                    return Decided::Verdicts(verdicts);
                }
                Ok(verdicts) => {
                    let error =
                        anyhow::anyhow!("{} verdicts for {} messages", verdicts.len(), batch.len());
                    return Decided::Failed(error);
                }
                Err(Failure::Other(error)) => return Decided::Failed(error),
                Err(Failure::Transient(error)) => {
                    let wait = pause.next();
                    tracing::warn!(
                        consumer = self.consumer.name,
                        messages = batch.len(),
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
    async fn carry_out(&self, batch: &[Message], verdicts: Vec<Verdict>, stop: &CancellationToken) {
        let in_hand = (self.consumer.name, batch);
        crash::point("worker.decided", &in_hand);
        let mut done = Vec::new();
        let mut dead = Vec::new();
        let mut outgoing = Vec::new();
        for (message, verdict) in batch.iter().zip(verdicts) {
            match verdict {
                Verdict::Done(publish) => {
                    done.push(message);
                    outgoing.extend(publish);
                }
                Verdict::DeadLetter(reason) => {
                    outgoing.push(self.dead_letter(message, &reason));
                    dead.push(message);
                }
            }
        }
        if !self.publish(outgoing, stop).await {
            return self.hand_back(batch).await;
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
    async fn fail(&self, message: &[Message], error: &anyhow::Error, stop: &CancellationToken) {
        let delivered = message.first().map_or(1, delivered);
        tracing::error!(
            consumer = self.consumer.name,
            delivered,
            error = format!("{error:#}"),
            "a message can't be processed"
        );
        if self.consumer.max_deliver > 0 && delivered >= self.consumer.max_deliver {
            let reason = format!("failed {delivered} times: {error:#}");
            self.carry_out(message, vec![Verdict::DeadLetter(reason)], stop).await;
        } else {
            self.hand_back(message).await;
        }
    }

    async fn hand_back(&self, batch: &[Message]) {
        self.tell_all(batch.iter(), AckKind::Nak(Some(HAND_BACK))).await;
        self.count("handed_back", batch.len());
    }

    /// Without an answer: one that is lost costs a redelivery.
    async fn tell_all(&self, messages: impl Iterator<Item = &Message>, kind: AckKind) {
        for message in messages {
            if let Err(error) = message.ack_with(kind).await {
                tracing::debug!(consumer = self.consumer.name, %error, ?kind, "not told");
            }
        }
    }

    fn dead_letter(&self, message: &Message, reason: &str) -> Outgoing {
        let dead = DeadLetter {
            consumer: self.consumer,
            place: place(message),
            subject: &message.subject,
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

/// The number of this delivery, from 1 on.
fn delivered(message: &Message) -> i64 {
    message.info().map_or(1, |info| info.delivered)
}
