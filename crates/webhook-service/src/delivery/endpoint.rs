//! Delivers to one endpoint while its lease is held: rounds of attempts, each settled before the
//! next.
//!
//! A crash between the requests and the settlement delivers the events of one round again, under
//! the same ids.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use account_service::{
    events::{EventFilter, LoggedEvent, Source},
    http::event_json,
};
use anyhow::Context;
use axum::http::Uri;
use contract::RecordId;
use futures::{StreamExt, stream};
use runtime::{
    postgres::limited,
    telemetry::{otlp, trace::Trace},
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Deliveries,
    attempt_span::AttemptSpan,
    lease::{LEASE, READ, SlowReads, turn_end},
    places::Place,
};
use crate::{
    probe,
    round::{Attempt, Before},
    seal::SecretName,
    sender::{Delivery, Outcome},
    signature::{Algorithm, SigningKey},
    store::{self, ClaimedEndpoint, DueDelivery, EventClass, SecretRow},
};

/// How long requests in flight may last after the stop.
const LAST: Duration = Duration::from_secs(2);
/// New events of a round.
const PAGE: u16 = 100;
/// New events among which a probe is chosen.
const LOOKAHEAD: u16 = 250;
/// Retries of a round.
const MAX_RETRIES: i64 = 20;
/// With more waiting retries, an endpoint gets no new events.
const MAX_WAITING: i64 = 1000;
/// The pause of new events meanwhile.
const FULL_PAUSE: Duration = Duration::from_secs(60);

/// The events of a round.
struct Work {
    events: Vec<WorkItem>,
    /// New events that the probe passes over. They wait in rows once it was sent.
    passed_over: Vec<i64>,
    /// The cursor after all new events.
    through: i64,
    /// Retries of events that do not exist any more, or that the endpoint may not get: a promoted
    /// database may have given their positions to others.
    lost: Vec<i64>,
    /// Whether there is more to do after this round.
    has_more: bool,
    /// Whether there are too many retries for new events.
    is_full: bool,
}

/// The new events of a round.
#[derive(Default)]
struct NewEvents {
    events: Vec<LoggedEvent>,
    passed_over: Vec<i64>,
    /// The cursor after all of them.
    through: i64,
    has_more: bool,
}

struct WorkItem {
    position: i64,
    /// Failed attempts before; `None` for a new event.
    earlier: Option<i32>,
    /// Whether the endpoint has taken another event since the last of them.
    others_taken: bool,
    id: String,
    body: Vec<u8>,
    /// The trace of the movement.
    movement: Option<Trace>,
}

/// An attempt that was begun.
struct Begun {
    /// Of the event.
    position: i64,
    /// Failed attempts before; `None` for a new event.
    earlier: Option<i32>,
}

/// Where the events go.
#[derive(Clone, Copy)]
struct Receiver<'a> {
    endpoint: Uuid,
    url: &'a Uri,
    keys: &'a [SigningKey],
    place: &'a Place,
}

impl Deliveries {
    /// Delivers until there is nothing due, the endpoint fails, its turn is over, or `stop`.
    /// `claimed` is when the claim was sent.
    ///
    /// # Errors
    /// If the database fails, or the current secret does not open.
    pub(super) async fn serve(
        &self,
        endpoint: &ClaimedEndpoint,
        claimed: Instant,
        place: &Place,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let url: Uri = endpoint.url.parse().context("the stored URL")?;
        let has_rows = endpoint.has_rows;
        let (position, failures) = (endpoint.position, endpoint.failures);
        let mut before = Before { position, failures, has_rows };
        let first = self.read_first(endpoint, before);
        let (keys, mut work) = timeout_at(claimed + READ, first).await.map_err(|_| SlowReads)??;
        let end = turn_end(claimed, Instant::now());
        let mut lease_end = claimed + LEASE;
        loop {
            let Work { events, passed_over, through, lost, has_more, is_full } = work;
            let items = events.len();
            let receiver = Receiver { endpoint: endpoint.id, url: &url, keys: &keys, place };
            let (attempts, begun) = self.attempt(events, receiver, end, stop).await;
            let is_complete = begun.len() == items;
            let begun_new = || begun.iter().filter(|begun| begun.earlier.is_none());
            let last = begun_new().map(|begun| begun.position).max();
            let ended: HashSet<_> = attempts.iter().map(|attempt| attempt.position).collect();
            let cut_off = begun_new().map(|begun| begun.position).filter(|at| !ended.contains(at));
            let cursor = if is_complete { through } else { last.unwrap_or(before.position) };
            let passed_over = passed_over.into_iter().filter(|position| *position <= cursor);
            let mut round = before.after(attempts, cursor, rand::random::<f64>);
            round.finished.extend(lost);
            round.deferred = cut_off.chain(passed_over).collect();
            // A slow endpoint goes on in another place.
            let is_over = stop.is_cancelled() || Instant::now() >= end || round.is_slow;
            if round.pause.is_none() && (is_over || (is_complete && !has_more)) {
                let pause = if is_full { FULL_PAUSE } else { Duration::ZERO };
                round.pause = Some(pause.as_secs_f64());
            }
            let sent = Instant::now();
            let settling = self.settle(endpoint, &round, lease_end, stop);
            // Without the lease, the task ends.
            let Some(settled) = place.during(settling).await? else { return Ok(()) };
            if !settled.enabled || round.pause.is_some() {
                return Ok(());
            }
            lease_end = sent + LEASE;
            before = Before { position: round.position, failures: round.failures, has_rows };
            work = self.read(endpoint, before).await?;
        }
    }

    /// What the first round needs.
    async fn read_first(
        &self,
        endpoint: &ClaimedEndpoint,
        before: Before,
    ) -> anyhow::Result<(Vec<SigningKey>, Work)> {
        let keys = self.keys(endpoint.id).await?;
        Ok((keys, self.read(endpoint, before).await?))
    }

    /// The keys that sign, the current one first. An earlier secret that does not open is left out:
    /// after the loss of a sealing key, the endpoints whose secrets were rotated go on. `reseal`
    /// reports such secrets.
    async fn keys(&self, endpoint: Uuid) -> anyhow::Result<Vec<SigningKey>> {
        let rows = limited(store::find_secrets(&self.pool, endpoint)).await??;
        let mut keys = Vec::new();
        for row in rows {
            match self.open(endpoint, &row) {
                Ok(key) => keys.push(key),
                Err(error) if keys.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        anyhow::ensure!(!keys.is_empty(), "the endpoint has no secret");
        Ok(keys)
    }

    fn open(&self, endpoint: Uuid, row: &SecretRow) -> anyhow::Result<SigningKey> {
        let name = SecretName { endpoint, secret: row.id };
        let algorithm = Algorithm::from_code(row.algorithm).context("unknown algorithm")?;
        let secret = self.sealing.open(name, &row.sealed)?;
        Ok(SigningKey::new(algorithm, &secret)?)
    }

    /// New events and due retries. A failing endpoint gets one of them.
    async fn read(&self, endpoint: &ClaimedEndpoint, before: Before) -> anyhow::Result<Work> {
        let is_failing = before.is_failing();
        let most = if is_failing { 1 } else { MAX_RETRIES };
        let (mut due, mut waiting) = (Vec::new(), 0);
        if endpoint.has_waiting || before.failures > 0 {
            due = limited(store::find_due(&self.pool, endpoint.id, most)).await??;
            let count = store::count_waiting(&self.pool, endpoint.id, MAX_WAITING);
            waiting = limited(count).await??;
        }
        let has_more_due = i64::try_from(due.len()) == Ok(most);
        let (mut retries, mut lost) = (Vec::new(), Vec::new());
        let positions: Vec<_> = due.iter().map(|due| due.position).collect();
        let mut found = self.find_events(&positions).await?;
        for due in due {
            match found.remove(&due.position) {
                Some(event) if may_get(endpoint, &event) => retries.push((event, Some(due))),
                _ => lost.push(due.position),
            }
        }
        let is_full = waiting >= MAX_WAITING;
        let may_read = endpoint.may_read && before.position < endpoint.announced && !is_full;
        let takes_new = !is_failing || before.probes_new() || retries.is_empty();
        let new = if may_read && takes_new {
            self.read_new(endpoint, before, waiting).await?
        } else {
            NewEvents { through: before.position, ..NewEvents::default() }
        };
        let NewEvents { events: new, passed_over, through, has_more: has_more_new } = new;
        if is_failing && !new.is_empty() {
            retries.clear();
        }
        // A replay may be of an event that waits for a retry: it is sent once in this round.
        let retried: HashSet<_> = retries.iter().map(|(event, _)| event.position).collect();
        let new = new.into_iter().filter(|event| !retried.contains(&event.position));
        let events = self.items(by_turns(new.map(|event| (event, None)), retries)).await?;
        let has_more = has_more_due || has_more_new;
        Ok(Work { events, passed_over, through, lost, has_more, is_full })
    }

    /// A page of new events; for a failing endpoint, one of them as a probe. `waiting` is the number
    /// of deliveries that wait for a retry.
    async fn read_new(
        &self,
        endpoint: &ClaimedEndpoint,
        before: Before,
        waiting: i64,
    ) -> anyhow::Result<NewEvents> {
        let filter = EventFilter { source: endpoint.source.clone(), kind: None };
        let limit = if before.is_failing() { LOOKAHEAD } else { PAGE };
        let page = self.log.read_to(&filter, before.position, endpoint.announced, limit).await?;
        let events = page.events.into_iter().filter(|event| is_wanted(endpoint, event));
        let mut new = NewEvents {
            events: events.collect(),
            passed_over: Vec::new(),
            through: page.through,
            has_more: page.has_more,
        };
        if before.is_failing() && new.events.len() > 1 {
            let probe = self.choose_probe(endpoint.id, &new.events, waiting).await?;
            let mut rest = new.events.split_off(probe);
            new.passed_over = new.events.iter().map(|event| event.position).collect();
            if rest.len() > 1 {
                rest.truncate(1);
                new.through = rest.first().map_or(before.position, |event| event.position);
                new.has_more = true;
            }
            new.events = rest;
        }
        Ok(new)
    }

    /// The index of the new event that a failing endpoint gets. Those before it get rows, of which
    /// there is a limit.
    async fn choose_probe(
        &self,
        endpoint: Uuid,
        new: &[LoggedEvent],
        waiting: i64,
    ) -> anyhow::Result<usize> {
        if waiting == 0 {
            return Ok(0);
        }
        let refused = limited(store::find_refused(&self.pool, endpoint)).await??;
        let class = |event: &LoggedEvent| EventClass {
            account: event.account.as_uuid(),
            kind: event.kind.code(),
        };
        let new: Vec<_> = new.iter().map(class).collect();
        let most = usize::try_from(MAX_WAITING.saturating_sub(waiting)).unwrap_or_default();
        Ok(probe::choose(&new, &refused, most))
    }

    /// The events of retries, in one statement: a slow database takes as long for each.
    async fn find_events(&self, positions: &[i64]) -> anyhow::Result<HashMap<i64, LoggedEvent>> {
        if positions.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(limited(account_service::store::find_events(&self.pool, positions)).await??)
    }

    async fn items(
        &self,
        events: Vec<(LoggedEvent, Option<DueDelivery>)>,
    ) -> anyhow::Result<Vec<WorkItem>> {
        let (events, due): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let details = self.log.details(&events).await?;
        let ids = self.log.ids().await?;
        let traces = self.traces(&events).await?;
        let items = events.iter().zip(due).zip(&details).map(|((event, due), detail)| {
            let (id, body) = event_json(ids, event, detail)?;
            let movement = event.record.and_then(|record| traces.get(&record).copied());
            let earlier = due.map(|due| due.attempts);
            let others_taken = due.is_some_and(|due| due.others_taken);
            Ok(WorkItem { position: event.position, earlier, others_taken, id, body, movement })
        });
        items.collect()
    }

    /// The traces of the movements, if spans are exported.
    async fn traces(&self, events: &[LoggedEvent]) -> anyhow::Result<HashMap<RecordId, Trace>> {
        let records: Vec<_> = events.iter().filter_map(|event| event.record).collect();
        if records.is_empty() || !otlp::is_on() {
            return Ok(HashMap::new());
        }
        Ok(limited(account_service::store::find_traces(&self.pool, &records)).await??)
    }

    /// Makes the attempts, in the order of their ends. After a failure, at the end of the turn or
    /// at the stop, no further one begins; soon after the stop, those that last are cut off. Gives
    /// those that have ended, and all that have begun.
    async fn attempt(
        &self,
        items: Vec<WorkItem>,
        receiver: Receiver<'_>,
        end: Instant,
        stop: &CancellationToken,
    ) -> (Vec<Attempt>, Vec<Begun>) {
        let has_failed = AtomicBool::new(false);
        let may_begin =
            || !has_failed.load(Ordering::Relaxed) && Instant::now() < end && !stop.is_cancelled();
        let cut_off = async {
            stop.cancelled().await;
            sleep(LAST).await;
        };
        let mut begun = Vec::new();
        let attempts = stream::iter(items)
            .take_while(|_| ready(may_begin()))
            .map(|WorkItem { position, earlier, others_taken, id, body, movement }| {
                begun.push(Begun { position, earlier });
                let has_failed = &has_failed;
                async move {
                    let Receiver { endpoint, url, keys, place } = receiver;
                    let at = Instant::now();
                    let span = AttemptSpan::begin(movement);
                    let sending = self.sender.send(Delivery { url, keys, id: &id, body });
                    let sent = place.during(sending).await;
                    span.end(endpoint, url, &id, earlier, &sent);
                    let outcome = sent.outcome;
                    let is_delivered = outcome == Outcome::Delivered;
                    if !is_delivered {
                        has_failed.store(true, Ordering::Relaxed);
                    }
                    let label = if is_delivered { "delivered" } else { "failed" };
                    metrics::counter!("passbook_webhook_attempts_total", "outcome" => label)
                        .increment(1);
                    Attempt { position, earlier, others_taken, outcome, took: at.elapsed() }
                }
            })
            .buffer_unordered(self.limits.in_flight)
            .take_until(cut_off);
        let attempts = attempts.collect().await;
        (attempts, begun)
    }
}

/// One of each by turns, so that neither waits for all of the others: a failure ends a round.
fn by_turns<T>(first: impl Iterator<Item = T>, second: Vec<T>) -> Vec<T> {
    let (mut turns, mut second) = (Vec::new(), second.into_iter());
    for item in first {
        turns.push(item);
        turns.extend(second.next());
    }
    turns.extend(second);
    turns
}

fn is_wanted(endpoint: &ClaimedEndpoint, event: &LoggedEvent) -> bool {
    endpoint.types.as_ref().is_none_or(|types| types.contains(&event.kind.code()))
}

/// Whether the event is of the accounts whose events are delivered.
fn may_get(endpoint: &ClaimedEndpoint, event: &LoggedEvent) -> bool {
    match &endpoint.source {
        Source::All => true,
        Source::Owner(owner) => *owner == event.owner,
        Source::Account(account) => *account == event.account,
    }
}
