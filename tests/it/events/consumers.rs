//! Consumers of the event log that lose their connection and their last effects at random, and go
//! on after the last event that they have stored.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, rngs::Xoshiro256PlusPlus as Random};
use reqwest::Method;
use serde_json::Value;
use tests::Client;
use tokio::time::{Instant, sleep, timeout_at};

use super::{items, text};
use crate::webhooks::{
    Endpoint,
    receiver::{Delivery, Receiver},
};

/// Pause before the next attempt, and between pages at the end of the log.
const PAUSE: Duration = Duration::from_millis(10);
/// The answer of a receiver that has stored the event.
const STORED: u16 = 204;

/// The length of the log, once it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct LogLength(Arc<AtomicUsize>);

impl LogLength {
    pub(super) fn set(&self, length: usize) {
        self.0.store(length, Ordering::Relaxed);
    }

    fn is_reached_by(&self, events: usize) -> bool {
        let length = self.0.load(Ordering::Relaxed);
        length > 0 && events >= length
    }
}

/// Reads pages up to the end of the log. A page in ten is lost before anything of it is stored,
/// and one in ten is stored in part.
pub(super) async fn by_pages(client: Client, mut random: Random, end: LogLength) -> Vec<Value> {
    let (mut stored, mut after) = (Vec::new(), String::new());
    loop {
        let limit = random.random_range(1..=100);
        let path = format!("/v1/events?limit={limit}{after}");
        let page = match client.send(Method::GET, &path, &[], None).await {
            Ok(page) if page.status == 200 => page,
            Ok(refused) if refused.status < 500 => panic!("{refused:?}"),
            _ => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let events = items(&page);
        let kept = match random.random_range(0..10) {
            0 => 0,
            1 => random.random_range(0..=events.len()),
            _ => events.len(),
        };
        stored.extend_from_slice(&events[..kept]);
        if kept == events.len() {
            after = format!("&after={}", page.text("nextCursor"));
        } else if let Some(last) = events[..kept].last() {
            after = format!("&after={}", text(last, "id"));
        }
        if page.body["hasMore"] == false && kept == events.len() {
            if end.is_reached_by(stored.len()) {
                return stored;
            }
            sleep(PAUSE).await;
        }
    }
}

/// Follows streams, each for 1.5 s at most, up to the end of the log. Up to three events that have
/// arrived last are lost.
pub(super) async fn by_streams(client: Client, mut random: Random, end: LogLength) -> Vec<Value> {
    let mut stored: Vec<Value> = Vec::new();
    while !end.is_reached_by(stored.len()) {
        let last = stored.last().map(|event| text(event, "id"));
        let mut stream = match client.follow("", last).await {
            Ok(stream) => stream,
            Err(Some(refused)) if refused.status < 500 => panic!("{refused:?}"),
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let until = Instant::now() + Duration::from_millis(random.random_range(1..1500));
        let before = stored.len();
        while !end.is_reached_by(stored.len())
            && let Ok(Some(event)) = timeout_at(until, stream.next()).await
        {
            stored.push(event);
        }
        let lost = random.random_range(0..=3).min(stored.len() - before);
        stored.truncate(stored.len() - lost);
    }
    stored
}

/// The events that a receiver of webhooks has stored, as it applies them: each once, and those of
/// an account in the order of their numbers. An early one waits for those before it.
///
/// Panics if a signature is wrong, deliveries with the same id differ, or an event waits for ever.
pub(super) fn by_webhooks(receiver: &Receiver, endpoint: &Endpoint) -> Vec<Value> {
    let mut known = HashMap::new();
    let mut accounts = BTreeMap::<String, (i64, BTreeMap<i64, Value>)>::new();
    let mut applied = Vec::new();
    for delivery in receiver.deliveries() {
        assert!(delivery.is_signed_by(endpoint.secret()), "{delivery:?}");
        if delivery.answer != STORED {
            continue;
        }
        let event = delivery.event();
        assert_eq!(text(&event, "id"), delivery.id);
        if let Some(earlier) = known.insert(delivery.id, event.clone()) {
            assert_eq!(earlier, event);
            continue;
        }
        let (last, early) = accounts.entry(text(&event, "accountId").to_owned()).or_default();
        early.insert(event["sequence"].as_i64().unwrap(), event);
        while let Some(next) = early.remove(&(*last + 1)) {
            *last += 1;
            applied.push(next);
        }
    }
    for (account, (last, early)) in accounts {
        let waiting: Vec<_> = early.keys().collect();
        assert!(early.is_empty(), "{account}: {last} applied, then a gap before {waiting:?}");
    }
    applied
}

/// The number of different events that the receiver has stored.
pub(super) fn count_stored(receiver: &Receiver) -> usize {
    let stored = |delivery: &Delivery| delivery.answer == STORED;
    receiver.count_events(stored)
}
