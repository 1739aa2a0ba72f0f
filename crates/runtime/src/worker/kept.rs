//! Messages that a worker keeps in hand, because another transaction holds the account of
//! one of their parts. They are kept in progress and tried again, so that a lock uses up no
//! delivery. Each keeps only its undecided parts: the others are settled and published.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_nats::jetstream::Message;
use tokio_util::bytes::Bytes;

use super::Delivery;
use crate::telemetry::metrics::{count, float};

/// Maximum undecided parts that one worker keeps, of about a kilobyte each. Further messages
/// are handed back.
const MAX_PARTS: usize = 5_000;
/// The pause between attempts.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. An attempt that waits for the lock timeout makes the pause longer,
/// because new messages wait meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A message with undecided parts.
#[derive(Debug)]
pub(super) struct Kept {
    /// Without its body.
    pub(super) message: Message,
    pub(super) undecided: Vec<Delivery>,
    /// Whether some of its other parts are done, and not dead-lettered.
    pub(super) is_part_done: bool,
}

impl Kept {
    /// Keeps these parts of a message, without the bodies of the others.
    pub(super) fn new(message: &Message, undecided: &[&Delivery], is_part_done: bool) -> Self {
        let mut message = message.clone();
        message.message.payload = Bytes::new();
        message.message.headers = None;
        let mut kept = Self { message, undecided: Vec::new(), is_part_done };
        kept.add(undecided.iter().copied());
        kept
    }

    pub(super) fn add<'a>(&mut self, undecided: impl Iterator<Item = &'a Delivery>) {
        let own = |delivery: &Delivery| Delivery {
            payload: Bytes::copy_from_slice(&delivery.payload),
            ..delivery.clone()
        };
        self.undecided.extend(undecided.map(own));
    }
}

/// The kept messages of one worker.
#[derive(Debug)]
pub(super) struct KeptMessages {
    consumer: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    messages: Vec<Kept>,
    next_attempt: Instant,
    next_progress: Instant,
}

impl KeptMessages {
    pub(super) fn new(consumer: &'static str) -> Self {
        let now = Instant::now();
        let state = State { messages: Vec::new(), next_attempt: now, next_progress: now };
        let kept = Self { consumer, state: Mutex::new(state) };
        kept.change_metric(0.0);
        kept
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more undecided parts it takes.
    pub(super) fn room(&self) -> usize {
        let parts = self.state().messages.iter().map(|kept| kept.undecided.len()).sum();
        MAX_PARTS.saturating_sub(parts)
    }

    pub(super) fn add(&self, messages: Vec<Kept>) {
        if messages.is_empty() {
            return;
        }
        self.change_metric(float(count(messages.len())));
        let mut state = self.state();
        if state.messages.is_empty() {
            state.next_attempt = Instant::now() + SHORTEST_PAUSE;
        }
        state.messages.extend(messages);
    }

    /// Takes all messages, to hand them back.
    pub(super) fn take_all(&self) -> Vec<Kept> {
        let messages = std::mem::take(&mut self.state().messages);
        self.change_metric(-float(count(messages.len())));
        messages
    }

    /// Takes all messages, if it is time to try them again. They count as kept until
    /// [`KeptMessages::attempted`].
    pub(super) fn take_due(&self) -> Vec<Kept> {
        let mut state = self.state();
        if state.next_attempt > Instant::now() {
            return Vec::new();
        }
        std::mem::take(&mut state.messages)
    }

    /// Sets the next attempt, after one with this number of messages that took this long.
    pub(super) fn attempted(&self, messages: usize, took: Duration) {
        self.change_metric(-float(count(messages)));
        let pause = (took * 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.state().next_attempt = Instant::now() + pause;
    }

    /// The messages, if it is time to keep them in progress.
    pub(super) fn due_for_progress(&self, every: Duration) -> Vec<Message> {
        let mut state = self.state();
        if state.next_progress > Instant::now() {
            return Vec::new();
        }
        state.next_progress = Instant::now() + every;
        state.messages.iter().map(|kept| kept.message.clone()).collect()
    }

    fn change_metric(&self, by: f64) {
        metrics::gauge!("passbook_worker_kept_messages", "consumer" => self.consumer).increment(by);
    }
}
