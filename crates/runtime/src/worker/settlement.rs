//! Settles the messages of a batch: each is acked, terminated or handed back, once what
//! its parts ask for is published.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::{AckKind, Message};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    BatchProcessor, Delivery, Handler, Verdict,
    batch::{Content, Fate, Fetched},
    dead_letter::dead_letter,
    pull_loop::Pause,
};
use crate::{
    failpoint,
    nats::{
        connection,
        publish::{Outgoing, publish_all},
    },
    tasks::sleep_unless_stopped,
    telemetry::metrics::count,
};

/// A message that is handed back is redelivered after this delay. Without a delay, a
/// short fault would use up all deliveries within milliseconds.
pub(super) const HAND_BACK_DELAY: Duration = Duration::from_secs(1);

/// What the messages of a batch come to.
#[derive(Default)]
struct Settlement<'a> {
    /// Messages to ack, dead-letter and hand back.
    done: Vec<&'a Message>,
    dead: Vec<&'a Message>,
    handed_back: Vec<&'a Message>,
    /// The numbers of their parts.
    parts: Parts,
    outgoing: Vec<Outgoing>,
    /// For each of `outgoing`: the message whose dead letter it is; `None` for a result.
    letter_of: Vec<Option<&'a Message>>,
    /// The spans to record, with the error of each.
    ended: Vec<(&'a Delivery, Option<String>)>,
}

#[derive(Default)]
struct Parts {
    done: usize,
    dead: usize,
    handed_back: usize,
}

impl<'a> Settlement<'a> {
    fn end(&mut self, delivery: &'a Delivery, error: Option<String>) {
        if delivery.trace.is_recorded() {
            self.ended.push((delivery, error));
        }
    }

    fn publish_result(&mut self, result: Option<Outgoing>) {
        self.letter_of.extend(result.as_ref().map(|_| None));
        self.outgoing.extend(result);
    }

    fn publish_letter(&mut self, of: &'a Message, letter: Option<Outgoing>) {
        self.letter_of.extend(letter.as_ref().map(|_| Some(of)));
        self.outgoing.extend(letter);
    }
}

/// A message whose dead letters have no PubAck.
struct Unstored<'a> {
    message: &'a Message,
    letters: Vec<Outgoing>,
    reason: String,
}

/// Groups letters by their messages. The letters of a message follow each other.
fn by_message<'a>(
    messages: Vec<&'a Message>,
    letters: Vec<Outgoing>,
    reason: &str,
) -> Vec<Unstored<'a>> {
    let mut all: Vec<Unstored<'a>> = Vec::new();
    for (message, letter) in messages.into_iter().zip(letters) {
        match all.last_mut() {
            Some(last) if std::ptr::eq(last.message, message) => last.letters.push(letter),
            _ => {
                all.push(Unstored { message, letters: vec![letter], reason: reason.to_owned() });
            }
        }
    }
    all
}

impl<H: Handler> BatchProcessor<H> {
    /// Publishes the messages of the verdicts, awaits their PubAcks, then acks.
    ///
    /// A message is acked once all its parts are settled. If one of them can't be settled
    /// now, the message is handed back as a whole. The results of its other parts are
    /// published all the same. At the redelivery, the store answers them again.
    ///
    /// A message whose dead letters are not stored now is kept by [`UnstoredLetters`]. It holds up
    /// no other message.
    ///
    /// [`UnstoredLetters`]: super::UnstoredLetters
    pub(super) async fn carry_out(
        &self,
        batch: &[Fetched<'_>],
        deliveries: &[Delivery],
        fates: Vec<Fate>,
        stop: &CancellationToken,
    ) {
        let messages: Vec<_> = batch.iter().map(|fetched| fetched.message).collect();
        let data = (self.consumer.name, &messages);
        failpoint::point("worker.decided", &data);
        let Settlement { mut done, mut dead, mut handed_back, parts, outgoing, letter_of, ended } =
            self.settlement(batch, deliveries, fates);
        let hand_back = AckKind::Nak(Some(HAND_BACK_DELAY));
        let Some(unstored) = self.publish(outgoing, letter_of, stop).await else {
            self.ack_all(messages.iter().copied(), hand_back).await;
            for delivery in deliveries {
                delivery.ended(self.consumer, Some("handed back: the process stops".to_owned()));
            }
            return self.count("handed_back", messages.len(), deliveries.len());
        };
        let (done_before, dead_before) = (done.len(), dead.len());
        for Unstored { message, letters, reason } in unstored {
            let position = |of: &Message| std::ptr::eq(of, message);
            let kind = match done.iter().position(|of| position(of)) {
                Some(at) => {
                    done.remove(at);
                    AckKind::Ack
                }
                None => AckKind::Term,
            };
            dead.retain(|of| !position(of));
            if !self.unstored.keep(self.consumer, message, kind, letters, reason) {
                handed_back.push(message);
            }
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
        self.ack_all(handed_back.iter().copied(), hand_back).await;
        self.count("done", done_before, parts.done);
        self.count("dead_letter", dead_before, parts.dead);
        self.count("handed_back", handed_back.len(), parts.handed_back);
        for (delivery, error) in ended {
            delivery.ended(self.consumer, error);
        }
    }

    fn settlement<'a>(
        &self,
        batch: &'a [Fetched<'_>],
        deliveries: &'a [Delivery],
        fates: Vec<Fate>,
    ) -> Settlement<'a> {
        let mut settlement = Settlement::default();
        let mut fates = fates.into_iter();
        for fetched in batch {
            match &fetched.content {
                Content::Parts(range) => {
                    let parts = deliveries.get(range.clone()).unwrap_or_default();
                    let fates = fates.by_ref().take(parts.len());
                    self.settle_parts(fetched.message, parts, fates, &mut settlement);
                }
                Content::Invalid(delivery, reason) => {
                    let letter = self.dead_letter(delivery, reason);
                    settlement.publish_letter(fetched.message, Some(letter));
                    settlement.end(delivery, Some(reason.clone()));
                    settlement.dead.push(fetched.message);
                    settlement.parts.dead += 1;
                }
            }
        }
        settlement
    }

    /// Adds one message and its parts.
    fn settle_parts<'a>(
        &self,
        message: &'a Message,
        parts: &'a [Delivery],
        fates: impl Iterator<Item = Fate>,
        settlement: &mut Settlement<'a>,
    ) {
        let (mut dead, mut handed_back) = (Vec::new(), None);
        for (delivery, fate) in parts.iter().zip(fates) {
            match fate {
                Fate::Verdict(Verdict::Done(publish)) => {
                    settlement.publish_result(publish);
                    dead.push(None);
                }
                Fate::Verdict(Verdict::DeadLetter(reason)) => dead.push(Some(reason)),
                Fate::Failed(error) => {
                    let reason = self.failed(delivery, &error);
                    if reason.is_none() {
                        handed_back = Some(format!("{error:#}"));
                    }
                    dead.push(reason);
                }
                Fate::Undecided => {
                    handed_back = Some("the process stops".to_owned());
                    dead.push(None);
                }
            }
        }
        if let Some(why) = handed_back {
            settlement.handed_back.push(message);
            settlement.parts.handed_back += parts.len();
            for delivery in parts {
                settlement.end(delivery, Some(format!("handed back: {why}")));
            }
            return;
        }
        let dead_parts = dead.iter().flatten().count();
        settlement.parts.dead += dead_parts;
        settlement.parts.done += parts.len() - dead_parts;
        if dead_parts == parts.len() {
            settlement.dead.push(message);
        } else {
            settlement.done.push(message);
        }
        for (delivery, reason) in parts.iter().zip(dead) {
            let letter = reason.as_ref().map(|reason| self.dead_letter(delivery, reason));
            settlement.publish_letter(message, letter);
            settlement.end(delivery, reason);
        }
    }

    /// After the handler failed with this delivery alone: the reason of its dead letter, if
    /// it was the last delivery.
    fn failed(&self, delivery: &Delivery, error: &anyhow::Error) -> Option<String> {
        let delivered = delivery.number;
        delivery.trace.log_span().in_scope(|| {
            tracing::error!(
                consumer = self.consumer.name,
                delivered,
                error = format!("{error:#}"),
                "processing a message failed"
            );
        });
        let is_last = self.consumer.max_deliver > 0 && delivered >= self.consumer.max_deliver;
        is_last.then(|| format!("failed {delivered} times: {error:#}"))
    }

    fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Outgoing {
        dead_letter(self.consumer, delivery, reason, self.client.server_info().max_payload)
    }

    /// Publishes until every result has its PubAck; `None` if stopped before. Returns the dead
    /// letters without one, by message.
    async fn publish<'a>(
        &self,
        mut outgoing: Vec<Outgoing>,
        mut letter_of: Vec<Option<&'a Message>>,
        stop: &CancellationToken,
    ) -> Option<Vec<Unstored<'a>>> {
        let mut pause = Pause::default();
        while let Err(missing) = publish_all(&self.jetstream, &outgoing).await {
            let positions: BTreeSet<_> = missing.positions.iter().copied().collect();
            let mut at = 0..;
            outgoing.retain(|_| at.next().is_some_and(|at| positions.contains(&at)));
            let mut at = 0..;
            letter_of.retain(|_| at.next().is_some_and(|at| positions.contains(&at)));
            if let Some(of) = letter_of.iter().copied().collect::<Option<Vec<_>>>() {
                return Some(by_message(of, outgoing, &missing.reason));
            }
            let wait = pause.next();
            tracing::warn!(
                consumer = self.consumer.name,
                messages = missing.positions.len(),
                ?wait,
                reason = missing.reason,
                "messages got no PubAck; publishing them again"
            );
            if !sleep_unless_stopped(wait, stop).await {
                return None;
            }
        }
        Some(Vec::new())
    }

    /// Sends acks without awaiting a reply: a lost ack costs a redelivery.
    pub(super) async fn ack_all(&self, messages: impl Iterator<Item = &Message>, kind: AckKind) {
        for message in messages {
            if let Err(error) = message.ack_with(kind).await {
                tracing::debug!(consumer = self.consumer.name, %error, ?kind, "sending an ack failed");
            }
        }
    }

    pub(super) fn count(&self, verdict: &'static str, messages: usize, parts: usize) {
        let consumer = self.consumer.name;
        for (metric, number) in
            [("passbook_worker_messages_total", messages), ("passbook_worker_parts_total", parts)]
        {
            metrics::counter!(metric, "consumer" => consumer, "verdict" => verdict)
                .increment(count(number));
        }
    }
}
