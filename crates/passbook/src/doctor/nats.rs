//! The broker: version, streams and consumers against the contract, and what
//! lies in them that should not.

use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, Info},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use contract::{
    CONSUMERS, ConsumerSpec, DEAD_LETTER, MAX_DELIVERIES, Retention, STREAMS, StreamSpec,
};
use time::OffsetDateTime;

use super::{
    STUCK,
    check::{Area, Check},
};
use crate::{
    broker::{self, Address, Broker, Walk},
    dlq::open_subjects,
};

/// Two looks at a consumer are this far apart: workers fetch every second.
const BETWEEN: Duration = Duration::from_millis(1500);
/// Messages of one sort that are counted, one request each.
const COUNTED: usize = 100;

/// The check that has an alert of its own.
const OPEN_LETTERS: &str = "open dead letters";

/// Looks at everything the broker has.
pub(super) async fn look(address: Option<&Address>) -> Vec<Check> {
    let mut area = Area::new("NATS");
    let Some(address) = address else {
        area.not_checked("reachable", "no URL is given");
        return area.done();
    };
    let advice = "start nats-server, or correct the URL, its user or password; requests are \
                  accepted meanwhile, and settled once it is back";
    let Some(broker) = area.attempt("reachable", advice, Broker::connect(address)).await else {
        return area.done();
    };
    version(&mut area, &broker);
    if !jetstream(&mut area, &broker).await {
        return area.done();
    }
    for spec in &STREAMS {
        let advice = "see the broker's log: it does not tell about a stream; a user who may look at \
                      all of them is needed";
        let Some(found) = area.attempt(spec.name, advice, broker.stream(spec.name)).await else {
            continue;
        };
        let consumers = || CONSUMERS.iter().filter(|it| it.stream == spec.name);
        match found {
            // For a service that is not built yet.
            None if spec.name == "job" => {}
            None => area.finding(
                spec.name,
                "the stream is missing",
                "start the services: they make it within seconds, and send again what it held",
            ),
            Some(stream) => {
                stream_drift(&mut area, spec, &stream.cached_info().config);
                for spec in consumers() {
                    consumer(&mut area, &stream, spec).await;
                }
                contents(&mut area, spec, &broker, &stream).await;
            }
        }
    }
    area.done()
}

fn version(area: &mut Area, broker: &Broker) {
    let version = broker.client.server_info().version;
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let number = (next(), next(), next());
    if number < (2, 12, 9) || number == (2, 14, 0) {
        area.finding(
            "version",
            format!("nats-server {version} loses or holds back messages of work queues"),
            "upgrade to nats-server 2.12.9, 2.14.1 or newer",
        );
    } else {
        area.fine("reachable", format!("nats-server {version}"));
    }
}

/// Whether it answers: nothing else would.
async fn jetstream(area: &mut Area, broker: &Broker) -> bool {
    let ask = async { Ok(broker.jetstream.query_account().await?) };
    let advice = "enable JetStream in the server's configuration and for this account";
    let Some(account) = area.attempt("JetStream", advice, ask).await else { return false };
    let (used, most) = (account.storage, account.limits.max_storage.unwrap_or(-1));
    let used = i128::from(used);
    let most = i128::from(most);
    if most > 0 && used * 10 >= most * 9 {
        let detail = format!("{used} of {most} bytes of storage are used");
        area.finding("JetStream", detail, "give the account more storage: a full stream refuses");
    } else {
        area.fine("JetStream", format!("{used} bytes stored"));
    }
    true
}

/// A field that is not as the contract has it.
struct Drift {
    field: &'static str,
    found: String,
    wanted: String,
    /// Whether only a deletion could mend it.
    fixed: bool,
}

fn drift<T: PartialEq + std::fmt::Debug>(
    field: &'static str,
    found: T,
    wanted: T,
    fixed: bool,
) -> Option<Drift> {
    let told = |value: &T| format!("{value:?}");
    (found != wanted).then(|| Drift { field, found: told(&found), wanted: told(&wanted), fixed })
}

fn stream_drift(area: &mut Area, spec: &StreamSpec, found: &Config) {
    // Named one by one: a field that is added to the contract has to be compared here, too.
    let StreamSpec { name, subjects, retention, max_age, duplicate_window } = *spec;
    let (retention, direct) = match retention {
        Retention::WorkQueue => (RetentionPolicy::WorkQueue, false),
        Retention::Limits => (RetentionPolicy::Limits, true),
    };
    let subjects: Vec<_> = subjects.iter().map(|&subject| subject.to_owned()).collect();
    let drifts = [
        drift("retention", found.retention, retention, true),
        drift("storage", found.storage, StorageType::File, true),
        drift("subjects", found.subjects.clone(), subjects, false),
        drift("discard", found.discard, DiscardPolicy::New, false),
        drift("max_age", found.max_age, max_age, false),
        drift("duplicate_window", found.duplicate_window, duplicate_window, false),
        drift("allow_direct", found.allow_direct, direct, false),
    ];
    tell_drifts(area, name, drifts.into_iter().flatten().collect());
}

fn consumer_drift(area: &mut Area, spec: &ConsumerSpec, info: &Info) {
    let ConsumerSpec { name, stream: _, filter, ack_wait, max_deliver, max_ack_pending } = *spec;
    let found = &info.config;
    let drifts = [
        drift("deliver_subject", found.deliver_subject.clone(), None, true),
        drift("deliver_policy", found.deliver_policy, DeliverPolicy::All, true),
        drift("ack_policy", found.ack_policy, AckPolicy::Explicit, true),
        drift("filter_subject", found.filter_subject.clone(), filter.to_owned(), false),
        drift("ack_wait", found.ack_wait, ack_wait, false),
        drift("max_deliver", found.max_deliver, max_deliver, false),
        drift("max_ack_pending", found.max_ack_pending, max_ack_pending, false),
        drift("backoff", found.backoff.clone(), Vec::new(), false),
    ];
    tell_drifts(area, name, drifts.into_iter().flatten().collect());
}

fn tell_drifts(area: &mut Area, name: &str, drifts: Vec<Drift>) {
    for Drift { field, found, wanted, fixed } in drifts {
        let detail = format!("{field} is {found}, and {wanted} is expected");
        let advice = if fixed {
            "delete it once it is empty and restart the services, which make it anew: no change in \
             place can mend that"
        } else {
            "the services set it right, within seconds or when they are restarted: find out who \
             changed it"
        };
        area.finding(name, detail, advice);
    }
}

async fn consumer(area: &mut Area, stream: &Stream, spec: &ConsumerSpec) {
    let advice = "see the broker's log: it does not tell about a consumer";
    let looks = async {
        let first = broker::consumer(stream, spec.name).await?;
        // Between two fetches nobody waits for a moment, and a message is unacked.
        let Some(first) = first else { return Ok(None) };
        if is_calm(&first) {
            return Ok(Some((None, first)));
        }
        tokio::time::sleep(BETWEEN).await;
        let second = broker::consumer(stream, spec.name).await?;
        Ok(second.map(|second| (Some(first), second)))
    };
    let Some(looks) = area.attempt(spec.name, advice, looks).await else { return };
    let Some((first, info)) = looks else {
        return area.finding(
            spec.name,
            "the consumer is missing",
            "start the service that it belongs to: its workers make it within seconds",
        );
    };
    consumer_drift(area, spec, &info);
    if info.paused {
        let advice = "resume it (`nats consumer resume`): somebody paused it";
        area.finding(spec.name, "it is paused", advice);
    }
    let idle = first.as_ref().is_none_or(|it| it.num_waiting == 0) && info.num_waiting == 0;
    let backlog = backlog(stream, spec, &info);
    let oldest = area.attempt(spec.name, advice, backlog).await.flatten();
    let waiting = info.num_pending;
    if idle && waiting > 0 {
        let detail = format!("{waiting} messages wait and nobody pulls,");
        let advice = "start the service that it belongs to, or see why its workers stand still";
        area.lasting(spec.name, detail, oldest.unwrap_or_default(), advice);
    } else if oldest.is_some_and(|age| age > STUCK) {
        let detail = format!("{waiting} messages wait, the oldest");
        let advice = "its workers are too slow or held up: see their log and database, run more \
                      replicas";
        area.lasting(spec.name, detail, oldest.unwrap_or_default(), advice);
    }
    let again = first.map_or(0, |it| it.num_redelivered).min(info.num_redelivered);
    if again > 0 && info.num_ack_pending > 0 {
        let detail = format!("{again} messages were delivered more than once and are not acked");
        let advice = "see the log of its workers: they crash on them, hand them back, or were killed; \
                      in the end they become dead letters";
        area.finding(spec.name, detail, advice);
    }
    if let Some(spec) = StreamSpec::named(spec.stream)
        && spec.retention == Retention::WorkQueue
    {
        left_behind(area, stream, &info).await;
    }
    if !area.has_finding(spec.name) {
        let (unacked, pulls) = (info.num_ack_pending, info.num_waiting);
        area.fine(spec.name, format!("{waiting} waiting, {unacked} unacked, {pulls} pulls"));
    }
}

fn is_calm(info: &Info) -> bool {
    info.num_pending == 0 && info.num_ack_pending == 0
}

/// The age of the first message that was not delivered yet.
async fn backlog(stream: &Stream, spec: &ConsumerSpec, info: &Info) -> Result<Option<Duration>> {
    if info.num_pending == 0 {
        return Ok(None);
    }
    let next = info.delivered.stream_sequence + 1;
    let first = stream.get_first_raw_message_by_subject(spec.filter, next).await;
    Ok(broker::found(first)?.map(|message| age(message.time)))
}

async fn left_behind(area: &mut Area, stream: &Stream, info: &Info) {
    let advice = "see the broker's log: it does not tell about a message";
    let behind = broker::left_behind(stream, info, COUNTED);
    let Some(behind) = area.attempt(&info.name, advice, behind).await else { return };
    let Some((sequence, stored)) = behind.first().copied() else { return };
    if age(stored) > STUCK {
        let detail = format!(
            "{} messages will never be delivered again, the first at {sequence},",
            behind.len()
        );
        let advice = "the transaction-service makes them dead letters within two minutes, and the \
                      redrive settles their records: see whether one runs, and read its log";
        area.lasting(&info.name, detail, age(stored), advice);
    }
}

/// What should not lie in a stream for long.
async fn contents(area: &mut Area, spec: &StreamSpec, broker: &Broker, stream: &Stream) {
    let state = &stream.cached_info().state;
    let advice = "see the broker's log: it does not tell about a message";
    if spec.name == DEAD_LETTER {
        let letters = open_letters(broker, stream);
        match area.attempt(OPEN_LETTERS, advice, letters).await {
            None => {}
            Some((_, None)) => area.fine(OPEN_LETTERS, "none"),
            Some((open, Some(oldest))) => {
                let advice = "look at them with `passbook dlq ls`, then redrive or discard each";
                let detail = format!("{open} wait, the oldest");
                area.lasting(OPEN_LETTERS, detail, oldest, advice);
            }
        }
    }
    match spec.name {
        MAX_DELIVERIES if state.messages > 0 => {
            let first = async {
                broker::found(
                    stream.get_first_raw_message_by_subject(">", state.first_sequence).await,
                )
            };
            let Some(first) = area.attempt(spec.name, advice, first).await.flatten() else {
                return;
            };
            let age = age(first.time);
            if age > STUCK {
                let detail = format!("{} advisories about given-up messages wait", state.messages);
                let advice = "start the services: they make those messages dead letters";
                area.lasting(spec.name, detail, age, advice);
            } else {
                area.fine(spec.name, format!("{} messages", state.messages));
            }
        }
        _ if area.has_finding(spec.name) => {}
        _ => area.fine(spec.name, format!("{} messages", state.messages)),
    }
}

/// How many there are, and the age of the oldest.
async fn open_letters(broker: &Broker, stream: &Stream) -> Result<(u64, Option<Duration>)> {
    let until = stream.cached_info().state.last_sequence;
    let mut walk = Walk::begin(broker, stream, &open_subjects("*"), until, 1).await?;
    let open = walk.left;
    let first = walk.next().await?.unwrap_or_default();
    Ok((open, first.first().map(|message| age(message.time))))
}

fn age(since: OffsetDateTime) -> Duration {
    (OffsetDateTime::now_utc() - since).try_into().unwrap_or_default()
}
