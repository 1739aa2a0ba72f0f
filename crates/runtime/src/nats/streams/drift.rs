//! The settings of a stream or consumer in the server, compared with those of the contract.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::{
    consumer::{self, IntoConsumerConfig},
    stream,
};
use contract::{ConsumerSpec, StreamSpec};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{StreamsError, consumer_config, stream_config};

/// A setting of a stream or consumer with another value than in the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The name in the server's configuration.
    pub field: String,
    /// The value in the server.
    pub found: String,
    /// The value in the contract.
    pub wanted: String,
}

impl Difference {
    /// Whether the server can change the setting of an existing stream or consumer.
    #[must_use]
    pub fn is_mutable(&self) -> bool {
        !IMMUTABLE.contains(&&*self.field)
    }

    pub(super) fn drift(self, what: String) -> StreamsError {
        let Self { field, found, wanted } = self;
        StreamsError::Drift { what, field, found, wanted }
    }
}

/// The settings that the server keeps as they are. Some it only refuses to loosen.
const IMMUTABLE: [&str; 15] = [
    "retention",
    "storage",
    "max_consumers",
    "mirror",
    "sealed",
    "deny_delete",
    "deny_purge",
    "persist_mode",
    "template_owner",
    "allow_msg_ttl",
    "allow_msg_counter",
    "allow_msg_schedules",
    "deliver_subject",
    "deliver_policy",
    "ack_policy",
];

/// The settings of a stream that differ from the contract, by name.
#[must_use]
pub fn stream_differences(spec: &StreamSpec, found: &stream::Config) -> Vec<Difference> {
    let replicas = u8::try_from(found.num_replicas).unwrap_or(u8::MAX);
    differences(found, &updated(found, stream_config(spec, replicas)))
}

/// The settings of a consumer that differ from the contract, by name.
#[must_use]
pub fn consumer_differences(spec: &ConsumerSpec, found: &consumer::Config) -> Vec<Difference> {
    let wanted = consumer::Config {
        // The server's own, and the operator's.
        name: found.name.clone(),
        description: found.description.clone(),
        metadata: found.metadata.clone(),
        num_replicas: found.num_replicas,
        max_waiting: found.max_waiting,
        pause_until: found.pause_until,
        ..consumer_config(spec).into_consumer_config()
    };
    differences(found, &wanted)
}

pub(super) fn differences<T: Serialize>(found: &T, wanted: &T) -> Vec<Difference> {
    let (found, wanted) = (fields(found), fields(wanted));
    let names: BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
    let differ = names.into_iter().filter(|&name| set(&found, name) != set(&wanted, name));
    differ
        .map(|name| Difference {
            field: name.clone(),
            found: text(name, set(&found, name)),
            wanted: text(name, set(&wanted, name)),
        })
        .collect()
}

/// The settings in nanoseconds.
const TIMES: [&str; 4] = ["max_age", "duplicate_window", "ack_wait", "inactive_threshold"];

fn text(name: &str, value: Option<&Value>) -> String {
    let Some(value) = value else { return "none".to_owned() };
    match value.as_u64().filter(|_| TIMES.contains(&name)) {
        Some(nanos) => format!("{:?}", Duration::from_nanos(nanos)),
        None => value.to_string(),
    }
}

/// The settings by their names in the server's configuration.
fn fields(config: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// The value of a setting, if it has one. Of a limit, 0 and -1 mean none.
fn set<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let unset = [Value::Null, false.into(), 0.into(), (-1).into(), "".into()];
    fields.get(name).filter(|value| !unset.contains(value))
}

/// The contract's settings. Those about no message stay as the operator set them.
pub(super) fn updated(found: &stream::Config, wanted: stream::Config) -> stream::Config {
    stream::Config {
        description: found.description.clone(),
        metadata: found.metadata.clone(),
        placement: found.placement.clone(),
        compression: found.compression.clone(),
        first_sequence: found.first_sequence,
        ..wanted
    }
}

/// `wanted`, with the immutable settings of `found`.
pub(super) fn without_immutable(
    found: &stream::Config,
    wanted: &stream::Config,
) -> Option<stream::Config> {
    let (mut found, mut fields) = (fields(found), fields(wanted));
    for name in IMMUTABLE {
        match found.remove(name) {
            Some(value) => drop(fields.insert(name.to_owned(), value)),
            None => drop(fields.remove(name)),
        }
    }
    serde_json::from_value(fields.into()).ok()
}
