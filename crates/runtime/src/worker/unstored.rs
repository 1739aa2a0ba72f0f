//! Messages whose dead letters the broker does not store: the stream of dead letters is full, has no
//! leader, or refuses them.
//!
//! Such a message must neither be settled nor hold up others. It is kept in progress, so that
//! waiting uses up no delivery, and its letters are published again until they are stored. Handing
//! it back with a delay was rejected: it would use up the deliveries within seconds.
//! An advisory about a message at its maximum deliveries is kept alike, with the dead letters of
//! that message.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, AckKind, Message};
use contract::{ConsumerSpec, DEAD_LETTER};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::settlement::HAND_BACK_DELAY;
use crate::{
    health::{Health, Need},
    nats::{
        outgoing::Outgoing,
        publish::{Unacknowledged, publish_all},
    },
    tasks::sleep_unless_stopped,
    telemetry::metrics::{count, float},
};

/// The condition about these messages.
const CONDITION: &str = "dead-letters";
/// How often the task looks for work.
const EVERY: Duration = Duration::from_secs(1);
/// The pause after a letter was refused again.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Maximum bytes of all letters that a process keeps. Further messages are handed back.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Room for the headers of a letter, in bytes.
const HEADER_ROOM: usize = 1024;

/// The kept messages of a process.
#[derive(Debug)]
pub struct UnstoredLetters {
    health: Health,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Kept>,
    /// The error of the last attempt.
    reason: String,
}

#[derive(Debug)]
struct Kept {
    consumer: &'static ConsumerSpec,
    /// Without its body.
    message: Message,
    /// How it is settled once its letters are stored.
    kind: AckKind,
    letters: Vec<Outgoing>,
    next_progress: Instant,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.letters.iter().map(|letter| letter.payload.len() + HEADER_ROOM).sum()
    }
}

impl UnstoredLetters {
    /// None yet.
    pub(crate) fn new(health: Health) -> Self {
        health.expect(CONDITION, Need::Degraded);
        let unstored = Self { health, state: Mutex::default() };
        unstored.report();
        unstored
    }

    /// Keeps a message, to be settled by `kind` once its letters are stored. `false` if there is no
    /// room for it.
    pub(super) fn keep(
        &self,
        consumer: &'static ConsumerSpec,
        message: &Message,
        kind: AckKind,
        mut letters: Vec<Outgoing>,
        reason: String,
    ) -> bool {
        let mut message = message.clone();
        message.message.payload = Bytes::new();
        message.message.headers = None;
        for letter in &mut letters {
            // A part of the whole batch's memory.
            letter.payload = Bytes::copy_from_slice(&letter.payload);
        }
        let next_progress = Instant::now() + consumer.ack_wait / 3;
        let kept = Kept { consumer, message, kind, letters, next_progress };
        let mut state = self.state();
        let used: usize = state.messages.iter().map(Kept::bytes).sum();
        if used + kept.bytes() > MAX_BYTES {
            return false;
        }
        tracing::warn!(
            consumer = consumer.name,
            reason,
            "a dead letter is not stored; its message is kept, and others go on"
        );
        state.reason = reason;
        state.messages.push_back(kept);
        drop(state);
        self.report();
        true
    }

    /// Publishes the letters until `stop`, then hands the messages back.
    pub(crate) async fn run(
        self: Arc<Self>,
        jetstream: jetstream::Context,
        stop: CancellationToken,
    ) {
        let mut next_attempt = Instant::now();
        while sleep_unless_stopped(EVERY, &stop).await {
            self.keep_in_progress().await;
            if Instant::now() >= next_attempt && !self.publish(&jetstream).await {
                next_attempt = Instant::now() + RETRY_EVERY;
            }
            self.report();
        }
        let messages = std::mem::take(&mut self.state().messages);
        for Kept { consumer, message, .. } in messages {
            ack(consumer, &message, AckKind::Nak(Some(HAND_BACK_DELAY))).await;
        }
    }

    async fn keep_in_progress(&self) {
        let now = Instant::now();
        let due: Vec<_> = {
            let mut state = self.state();
            let due = state.messages.iter_mut().filter(|kept| kept.next_progress <= now);
            due.map(|kept| {
                kept.next_progress = now + kept.consumer.ack_wait / 3;
                (kept.consumer, kept.message.clone())
            })
            .collect()
        };
        for (consumer, message) in due {
            ack(consumer, &message, AckKind::Progress).await;
        }
    }

    /// Publishes the letters of one message after the other, up to the first refusal. `false` if
    /// there was one. The refused message goes to the end: another one may be smaller.
    async fn publish(&self, jetstream: &jetstream::Context) -> bool {
        loop {
            let Some(letters) = self.state().messages.front().map(|kept| kept.letters.clone())
            else {
                return true;
            };
            if let Err(missing) = publish_all(jetstream, &letters).await {
                self.refused(missing);
                return false;
            }
            // This task alone removes messages, so the first one is still the same.
            let stored = self.state().messages.pop_front();
            if let Some(Kept { consumer, message, kind, .. }) = stored {
                ack(consumer, &message, kind).await;
                tracing::info!(consumer = consumer.name, "a kept dead letter is stored");
            }
        }
    }

    /// Moves the first message to the end, without its stored letters.
    fn refused(&self, missing: Unacknowledged) {
        let mut state = self.state();
        if let Some(mut kept) = state.messages.pop_front() {
            let mut at = 0..;
            kept.letters.retain(|_| {
                at.next().is_some_and(|at| missing.positions.binary_search(&at).is_ok())
            });
            state.messages.push_back(kept);
        }
        state.reason = missing.reason;
    }

    /// Sets the condition and the metric.
    fn report(&self) {
        let state = self.state();
        let number = state.messages.len();
        metrics::gauge!("passbook_dead_letters_unstored").set(float(count(number)));
        self.health.set(
            CONDITION,
            (number > 0).then(|| {
                format!("{number} messages wait for {DEAD_LETTER}, which stores no dead letter of them: {}",
                    state.reason)
            }),
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ack(consumer: &ConsumerSpec, message: &Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(consumer = consumer.name, %error, ?kind, "sending an ack failed");
    }
}
