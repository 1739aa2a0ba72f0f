//! One consumer: its configuration, its backlog and its workers.

use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::{consumer::Info, stream::Stream};
use contract::{ConsumerSpec, Retention, StreamSpec, Topology};

use super::drift;
use crate::{
    age, broker,
    doctor::check::{Area, STUCK},
};

/// The pause between two samples of a consumer: workers fetch every second.
const SAMPLE_PAUSE: Duration = Duration::from_millis(1500);
/// Limit for counting exhausted messages: each takes a request.
const MAX_COUNTED: usize = 100;

pub(super) async fn check(
    area: &mut Area,
    stream: &Stream,
    stream_spec: &StreamSpec,
    spec: &ConsumerSpec,
    topology: &Topology,
) {
    let is_report_queue = spec.stream == topology.report.stream;
    let advice = "see the broker's log: it does not return the state of a consumer";
    let Some(samples) = area.attempt(spec.name, advice, sample(stream, spec)).await else { return };
    let Some(Samples { first, last }) = samples else {
        return area.finding(
            spec.name,
            "the consumer is missing",
            "start its service: the workers create the consumer within seconds",
        );
    };
    drift::check_consumer(area, spec, &last);
    if last.paused {
        let advice = "resume it with `nats consumer resume`";
        area.finding(spec.name, "it is paused", advice);
    }
    // Reports run for minutes, one at a time. The report database tells which of them wait too long.
    if !is_report_queue {
        check_progress(area, stream, spec, &first, &last).await;
    }
    if stream_spec.retention == Retention::WorkQueue {
        check_exhausted(area, stream, is_report_queue, &last).await;
    }
    if !area.has_finding(spec.name) {
        let (pending, unacked) = (last.num_pending, last.num_ack_pending);
        let pulls = last.num_waiting;
        area.fine(
            spec.name,
            format!("messages: {pending} waiting, {unacked} unacked; {pulls} pulls"),
        );
    }
}

/// Checks that the messages are worked off, each once.
async fn check_progress(
    area: &mut Area,
    stream: &Stream,
    spec: &ConsumerSpec,
    first: &Info,
    last: &Info,
) {
    check_backlog(area, stream, spec, first, last).await;
    check_unacked_limit(area, spec, first, last);
    let redelivered = first.num_redelivered.min(last.num_redelivered);
    if redelivered > 0 && last.num_ack_pending > 0 {
        let detail =
            format!("{redelivered} messages were delivered more than once and are not acked");
        let advice = "see the log of its workers: they crash on these messages, hand them back, or \
                      were killed; in the end, the messages become dead letters";
        area.finding(spec.name, detail, advice);
    }
}

/// A consumer's state at two times.
struct Samples {
    first: Info,
    last: Info,
}

/// Samples a consumer; `None` if it does not exist. A busy consumer is sampled twice: between two
/// fetches, no worker pulls for a moment and messages are unacked. The single sample of an idle
/// consumer counts twice.
async fn sample(stream: &Stream, spec: &ConsumerSpec) -> Result<Option<Samples>> {
    let Some(first) = broker::consumer(stream, spec.name).await? else { return Ok(None) };
    if broker::unsettled(&first) == 0 {
        return Ok(Some(Samples { last: first.clone(), first }));
    }
    tokio::time::sleep(SAMPLE_PAUSE).await;
    let last = broker::consumer(stream, spec.name).await?;
    Ok(last.map(|last| Samples { first, last }))
}

async fn check_backlog(
    area: &mut Area,
    stream: &Stream,
    spec: &ConsumerSpec,
    first: &Info,
    last: &Info,
) {
    let advice = "see the broker's log: it does not return a message";
    let oldest = area.attempt(spec.name, advice, oldest_pending(stream, spec, last)).await;
    let oldest = oldest.flatten();
    let pending = last.num_pending;
    let has_no_pulls = first.num_waiting == 0 && last.num_waiting == 0;
    if has_no_pulls && pending > 0 {
        let detail = format!("{pending} messages wait and no worker pulls,");
        let advice = "start its service, or find out why the service's workers stopped";
        area.lasting(spec.name, detail, oldest.unwrap_or_default(), advice);
    } else if let Some(oldest) = oldest.filter(|age| *age > STUCK) {
        let detail = format!("{pending} messages wait, the oldest");
        let advice = "its workers are too slow or blocked: see their log and database, run more \
                      replicas";
        area.lasting(spec.name, detail, oldest, advice);
    }
}

/// Checks that the consumer is not at its limit of unacked messages: then it delivers nothing,
/// whatever the number of its workers.
fn check_unacked_limit(area: &mut Area, spec: &ConsumerSpec, first: &Info, last: &Info) {
    let limit = usize::try_from(last.config.max_ack_pending).unwrap_or_default();
    if limit == 0
        || last.num_pending == 0
        || first.num_ack_pending.min(last.num_ack_pending) < limit
    {
        return;
    }
    let detail = format!(
        "{limit} messages are unacked, which is its max_ack_pending: {} others wait",
        last.num_pending
    );
    let wait = spec.ack_wait.as_secs();
    let advice = format!(
        "its workers are frozen, or wait for their database: see their log. Messages of a frozen \
         worker are delivered to another one after {wait} s"
    );
    area.finding(spec.name, detail, &advice);
}

/// The age of the first undelivered message.
async fn oldest_pending(
    stream: &Stream,
    spec: &ConsumerSpec,
    info: &Info,
) -> Result<Option<Duration>> {
    if info.num_pending == 0 {
        return Ok(None);
    }
    let next = info.delivered.stream_sequence + 1;
    let first = stream.get_first_raw_message_by_subject(spec.filter, next).await;
    Ok(broker::optional_message(first)?.map(|message| age::since(message.time)))
}

async fn check_exhausted(area: &mut Area, stream: &Stream, is_report_queue: bool, info: &Info) {
    let advice = "see the broker's log: it does not return a message";
    let lookup = broker::exhausted_messages(stream, info, MAX_COUNTED);
    let Some(exhausted) = area.attempt(&info.name, advice, lookup).await else { return };
    let Some((sequence, stored)) = exhausted.first().copied() else { return };
    let age = age::since(stored);
    if age > STUCK {
        let detail = format!(
            "{} messages will never be delivered again, the first at {sequence},",
            exhausted.len()
        );
        let advice = if is_report_queue {
            "the report-service deletes them within two minutes, and queues their reports again: check \
             whether a replica runs, and read its log"
        } else {
            "the transaction-service makes them dead letters within two minutes, and the redrive \
             settles their records: check whether a replica runs, and read its log"
        };
        area.lasting(&info.name, detail, age, advice);
    }
}
