//! Configurations of streams and consumers that differ from the contract.

use std::fmt::Debug;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, Info},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use contract::{ConsumerSpec, Retention, StreamSpec, WhenFull};

use crate::doctor::check::Area;

/// A field with another value than in the contract.
struct Drift {
    field: &'static str,
    actual: String,
    expected: String,
    /// Whether the broker can't change the field of an existing stream or consumer.
    is_immutable: bool,
}

/// Compares a field the broker can change.
fn mutable<T: PartialEq + Debug>(field: &'static str, actual: T, expected: T) -> Option<Drift> {
    (actual != expected).then(|| Drift {
        field,
        actual: format!("{actual:?}"),
        expected: format!("{expected:?}"),
        is_immutable: false,
    })
}

/// Compares a field the broker can't change.
fn immutable<T: PartialEq + Debug>(field: &'static str, actual: T, expected: T) -> Option<Drift> {
    mutable(field, actual, expected).map(|drift| Drift { is_immutable: true, ..drift })
}

pub(super) fn check_stream(area: &mut Area, spec: &StreamSpec, actual: &Config) {
    // Without `..`: a field added to the contract must be compared here too.
    let StreamSpec { name, subjects, retention, max_age, max_bytes, when_full, duplicate_window } =
        *spec;
    let (retention, allow_direct) = match retention {
        Retention::WorkQueue => (RetentionPolicy::WorkQueue, false),
        Retention::Limits => (RetentionPolicy::Limits, true),
    };
    let discard = match when_full {
        WhenFull::RejectNew => DiscardPolicy::New,
        WhenFull::DiscardOldest => DiscardPolicy::Old,
    };
    let subjects: Vec<_> = subjects.iter().map(|&subject| subject.to_owned()).collect();
    let drifts = [
        immutable("retention", actual.retention, retention),
        immutable("storage", actual.storage, StorageType::File),
        mutable("subjects", actual.subjects.clone(), subjects),
        mutable("discard", actual.discard, discard),
        mutable("max_age", actual.max_age, max_age),
        mutable("duplicate_window", actual.duplicate_window, duplicate_window),
        mutable("allow_direct", actual.allow_direct, allow_direct),
    ];
    report(area, name, drifts.into_iter().flatten());
    let (limit, expected) = (actual.max_bytes, i64::try_from(max_bytes).unwrap_or(i64::MAX));
    if limit != expected {
        let limit = if limit > 0 { format!("{limit} bytes") } else { "unlimited".to_owned() };
        let detail = format!("its size is {limit}, and {expected} bytes are expected");
        area.finding(
            name,
            detail,
            "run `passbook streams` with the services' PASSBOOK_STREAM_STORAGE: the \
                                    services do not change the size of an existing stream",
        );
    }
}

pub(super) fn check_consumer(area: &mut Area, spec: &ConsumerSpec, info: &Info) {
    let ConsumerSpec { name, stream: _, filter, ack_wait, max_deliver, max_ack_pending, bundle: _ } =
        *spec;
    let actual = &info.config;
    let drifts = [
        immutable("deliver_subject", actual.deliver_subject.clone(), None),
        immutable("deliver_policy", actual.deliver_policy, DeliverPolicy::All),
        immutable("ack_policy", actual.ack_policy, AckPolicy::Explicit),
        mutable("filter_subject", actual.filter_subject.clone(), filter.to_owned()),
        mutable("ack_wait", actual.ack_wait, ack_wait),
        mutable("max_deliver", actual.max_deliver, max_deliver),
        mutable("max_ack_pending", actual.max_ack_pending, max_ack_pending),
        mutable("backoff", actual.backoff.clone(), Vec::new()),
    ];
    report(area, name, drifts.into_iter().flatten());
}

fn report(area: &mut Area, name: &str, drifts: impl Iterator<Item = Drift>) {
    for Drift { field, actual, expected, is_immutable } in drifts {
        let detail = format!("{field} is {actual}, and {expected} is expected");
        let advice = if is_immutable {
            "delete it once it is empty, and restart the services to create it again: the broker \
             can't change this field"
        } else {
            "the services restore it, within seconds or at their next start: find out who changed it"
        };
        area.finding(name, detail, advice);
    }
}
