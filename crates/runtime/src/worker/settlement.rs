//! Settles the messages of a batch: each is acked, terminated, handed back or kept, once
//! what its parts ask for is published. A message whose publication fails holds up no other.

mod endings;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_nats::jetstream::{AckKind, Message};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    BatchProcessor, Delivery, Handler,
    batch::{Fate, Fetched},
    dead_letter::dead_letter,
    kept::Kept,
    pull_loop::Pause,
};
use crate::{
    failpoint,
    nats::{
        connection,
        outgoing::Outgoing,
        publish::{Unacknowledged, publish_all},
    },
    tasks::sleep_unless_stopped,
    telemetry::metrics::count,
};

/// A message that is handed back is redelivered after this delay. Without a delay, a
/// short fault would use up all deliveries within milliseconds.
pub(super) const HAND_BACK_DELAY: Duration = Duration::from_secs(1);
/// The delay of a message whose results are refused, or that would be kept without room for
/// it: only an operator can help.
const LONG_DELAY: Duration = Duration::from_secs(10);

/// What a message comes to.
#[derive(Debug)]
enum End {
    /// Some of its parts are done: ack.
    Done,
    /// All of its parts are dead-lettered: terminate.
    Dead,
    HandedBack(Duration),
    Kept(Box<Kept>),
    /// Kept by [`super::UnstoredLetters`], which settles it.
    Unstored,
}

/// A message and what it comes to, once everything of it is published.
#[derive(Debug)]
struct Ending<'a> {
    message: &'a Message,
    end: End,
    /// The numbers of its parts.
    done: usize,
    dead: usize,
    handed_back: usize,
    /// The spans to record, with the error of each.
    spans: Vec<(&'a Delivery, Option<String>)>,
}

/// Which delivery a message to publish belongs to.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    /// The position of its ending.
    ending: usize,
    delivery: &'a Delivery,
    is_dead_letter: bool,
}

/// What a batch comes to.
#[derive(Default)]
struct Settlement<'a> {
    /// `None` once it is settled.
    endings: Vec<Option<Ending<'a>>>,
    outgoing: Vec<Outgoing>,
    origins: Vec<Origin<'a>>,
    /// How many more undecided parts can be kept.
    room: usize,
}

impl<'a> Settlement<'a> {
    fn publish(&mut self, delivery: &'a Delivery, outgoing: Outgoing, is_dead_letter: bool) {
        self.outgoing.push(outgoing);
        self.origins.push(Origin { ending: self.endings.len(), delivery, is_dead_letter });
    }

    /// The endings without anything left to publish.
    fn take_published(&mut self) -> Vec<Ending<'a>> {
        let open: BTreeSet<_> = self.origins.iter().map(|origin| origin.ending).collect();
        let endings = self.endings.iter_mut().enumerate();
        endings.filter(|(at, _)| !open.contains(at)).filter_map(|(_, end)| end.take()).collect()
    }
}

impl<'a> Ending<'a> {
    fn new(message: &'a Message) -> Self {
        Self { message, end: End::Done, done: 0, dead: 0, handed_back: 0, spans: Vec::new() }
    }

    fn span(&mut self, delivery: &'a Delivery, error: Option<String>) {
        if delivery.trace.is_recorded() {
            self.spans.push((delivery, error));
        }
    }

    /// Hands the message back as a whole: its other parts are answered from the store again.
    fn hand_back(&mut self, delay: Duration, why: &str) {
        self.end = End::HandedBack(delay);
        self.handed_back += self.done + self.dead;
        (self.done, self.dead) = (0, 0);
        for (_, error) in &mut self.spans {
            *error = Some(format!("handed back: {why}"));
        }
    }
}

impl<H: Handler> BatchProcessor<H> {
    /// Publishes the messages of the verdicts, awaits their PubAcks, then acks. Returns the
    /// messages to keep.
    ///
    /// A message is acked once all its parts are settled. If one of them can't be settled
    /// now, the message is handed back as a whole. The results of its other parts are
    /// published all the same. At the redelivery, the store answers them again.
    ///
    /// A message whose dead letters are not stored now is kept by [`super::UnstoredLetters`].
    pub(super) async fn carry_out(
        &self,
        batch: &[Fetched<'_>],
        deliveries: &[Delivery],
        fates: Vec<Fate>,
        stop: &CancellationToken,
    ) -> Vec<Kept> {
        let messages: Vec<_> = batch.iter().map(|fetched| fetched.message).collect();
        failpoint::point("worker.decided", &(self.consumer.name, &messages));
        let mut settlement = self.settlement(batch, deliveries, fates);
        let mut kept = Vec::new();
        let mut pause = Pause::default();
        while let Err(missing) = publish_all(&self.jetstream, &settlement.outgoing).await {
            self.retain_unpublished(&mut settlement, &missing);
            // What can be published is not delayed by the rest.
            let published = settlement.take_published();
            kept.extend(self.settle_endings(published, &messages).await);
            if settlement.outgoing.is_empty() {
                break;
            }
            let wait = pause.next();
            tracing::warn!(
                consumer = self.consumer.name,
                messages = settlement.outgoing.len(),
                ?wait,
                reason = missing.reason,
                "messages got no PubAck; publishing them again"
            );
            if !sleep_unless_stopped(wait, stop).await {
                for ending in settlement.endings.iter_mut().flatten() {
                    ending.hand_back(HAND_BACK_DELAY, "the process stops");
                }
                break;
            }
        }
        settlement.origins.clear();
        let published = settlement.take_published();
        kept.extend(self.settle_endings(published, &messages).await);
        kept
    }

    /// Keeps what is to be published again. A refused result is never published again: its
    /// message is handed back, or dead-lettered at the last delivery.
    fn retain_unpublished(&self, settlement: &mut Settlement<'_>, missing: &Unacknowledged) {
        let outgoing = std::mem::take(&mut settlement.outgoing);
        let origins = std::mem::take(&mut settlement.origins);
        let mut letters: BTreeMap<usize, Vec<(Outgoing, Origin<'_>)>> = BTreeMap::new();
        for (at, (message, origin)) in outgoing.into_iter().zip(origins).enumerate() {
            if missing.positions.binary_search(&at).is_ok() && origin.is_dead_letter {
                letters.entry(origin.ending).or_default().push((message, origin));
                continue;
            }
            if missing.is_retryable(at) {
                settlement.outgoing.push(message);
                settlement.origins.push(origin);
            }
            let Some(refusal) = missing.refused.get(&at) else { continue };
            let Some(Some(ending)) = settlement.endings.get_mut(origin.ending) else { continue };
            if self.is_last(origin.delivery) {
                let reason = format!("the broker refuses its result: {refusal}");
                settlement.outgoing.push(self.dead_letter(origin.delivery, &reason));
                settlement.origins.push(Origin { is_dead_letter: true, ..origin });
                ending.done = ending.done.saturating_sub(1);
                ending.dead += 1;
                if ending.done == 0 && matches!(ending.end, End::Done) {
                    ending.end = End::Dead;
                }
            } else {
                ending.hand_back(LONG_DELAY, &refusal.reason);
            }
        }
        for (at, letters) in letters {
            if settlement.origins.iter().any(|origin| origin.ending == at) {
                let (letters, origins): (Vec<_>, Vec<_>) = letters.into_iter().unzip();
                settlement.outgoing.extend(letters);
                settlement.origins.extend(origins);
            } else if let Some(Some(ending)) = settlement.endings.get_mut(at) {
                self.keep_unstored(ending, letters, &missing.reason);
            }
        }
    }

    /// Keeps a message of which only dead letters are not stored.
    fn keep_unstored(
        &self,
        ending: &mut Ending<'_>,
        letters: Vec<(Outgoing, Origin<'_>)>,
        reason: &str,
    ) {
        let kind = match &mut ending.end {
            End::Done => AckKind::Ack,
            End::Dead => AckKind::Term,
            End::Kept(kept) => {
                // It is kept anyway: these parts are decided again with the others.
                ending.dead -= letters.len();
                return kept.add(letters.iter().map(|(_, origin)| origin.delivery));
            }
            End::HandedBack(_) | End::Unstored => return,
        };
        let letters = letters.into_iter().map(|(letter, _)| letter).collect();
        let unstored = &self.unstored;
        if unstored.keep(self.consumer, ending.message, kind, letters, reason.to_owned()) {
            ending.end = End::Unstored;
        } else {
            ending.hand_back(LONG_DELAY, reason);
        }
    }

    async fn settle_endings(&self, endings: Vec<Ending<'_>>, messages: &[&Message]) -> Vec<Kept> {
        let data = (self.consumer.name, messages);
        let (mut done, mut dead, mut handed_back) = (Vec::new(), Vec::new(), Vec::new());
        let mut kept = Vec::new();
        let mut parts = [0, 0, 0];
        let mut spans = Vec::new();
        for ending in endings {
            match ending.end {
                End::Done => done.push(ending.message),
                End::Dead => dead.push(ending.message),
                End::HandedBack(delay) => handed_back.push((ending.message, delay)),
                End::Kept(message) => kept.push(*message),
                End::Unstored => {}
            }
            let [all_done, all_dead, all_back] = &mut parts;
            *all_done += ending.done;
            *all_dead += ending.dead;
            *all_back += ending.handed_back;
            spans.extend(ending.spans);
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
        for (message, delay) in &handed_back {
            self.ack_all([*message].into_iter(), AckKind::Nak(Some(*delay))).await;
        }
        let [all_done, all_dead, all_back] = parts;
        self.count("done", done.len(), all_done);
        self.count("dead_letter", dead.len(), all_dead);
        self.count("handed_back", handed_back.len(), all_back);
        for (delivery, error) in spans {
            delivery.ended(self.consumer, error);
        }
        kept
    }

    /// Hands back all kept messages, because the process stops.
    pub(super) async fn hand_back_kept(&self) {
        let kept = self.kept.take_all();
        let messages = kept.iter().map(|kept| &kept.message);
        self.ack_all(messages, AckKind::Nak(Some(HAND_BACK_DELAY))).await;
        let parts = kept.iter().map(|kept| kept.undecided.len()).sum();
        self.count("handed_back", kept.len(), parts);
    }

    fn is_last(&self, delivery: &Delivery) -> bool {
        self.consumer.max_deliver > 0 && delivery.number >= self.consumer.max_deliver
    }

    fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Outgoing {
        dead_letter(self.consumer, delivery, reason, self.client.server_info().max_payload)
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
