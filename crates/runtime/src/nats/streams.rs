//! Creates the contract's missing streams and consumers, and compares the existing
//! ones. A service updates its own consumers, but no stream: a stream's settings can write
//! to any subject. `passbook streams` updates them, as the operator. If only a deletion can
//! repair a difference, the result is an error that names the field.

mod drift;

pub use drift::{Difference, consumer_differences, stream_differences};

use std::time::Duration;

use async_nats::jetstream::{
    self, ErrorCode,
    consumer::{AckPolicy, DeliverPolicy, pull},
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
    stream::{self, ConsumerErrorKind},
};
use backon::{BackoffBuilder, ExponentialBuilder};
use contract::{ConsumerSpec, Retention, STREAM_STORAGE_VARIABLE, StreamSpec, WhenFull};
use drift::{differences, updated, without_immutable};
use tokio_util::sync::CancellationToken;

use crate::tasks::sleep_unless_stopped;

/// Why a stream or consumer does not match the contract.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// A field differs, and the server can't change it in place.
    #[error(
        "{what} has {field} = {found} instead of {wanted}, which can't be changed in place: \
         delete it when it is empty, or use another NATS account"
    )]
    Drift {
        /// The stream or consumer.
        what: String,
        /// The field of its configuration.
        field: String,
        /// The value in the server.
        found: String,
        /// The value in the contract.
        wanted: String,
    },
    /// The server is unreachable or busy. A later attempt can succeed.
    #[error("{0}")]
    Unavailable(String),
}

fn unavailable(error: impl std::fmt::Display) -> StreamsError {
    StreamsError::Unavailable(error.to_string())
}

/// Retries [`ensure`] until it succeeds or `stop` is cancelled.
///
/// # Errors
/// [`StreamsError::Drift`] only.
pub async fn ensure_eventually(
    jetstream: &jetstream::Context,
    streams: &[&StreamSpec],
    consumers: &[&ConsumerSpec],
    replicas: u8,
    stop: &CancellationToken,
) -> Result<(), StreamsError> {
    let mut backoff = unlimited_backoff().build();
    while !stop.is_cancelled() {
        match ensure(jetstream, streams, consumers, replicas).await {
            Err(StreamsError::Unavailable(error)) => {
                let wait = backoff.next().unwrap_or_default();
                tracing::warn!(error, ?wait, "creating or checking streams failed; retrying");
                sleep_unless_stopped(wait, stop).await;
            }
            outcome => return outcome,
        }
    }
    Ok(())
}

/// How often a running process checks that its streams exist.
const CHECK_EVERY: Duration = Duration::from_secs(15);

/// Creates these streams and checks them until `stop`. A deleted stream is created
/// again.
///
/// # Errors
/// [`StreamsError::Drift`] only.
pub async fn keep(
    jetstream: jetstream::Context,
    streams: Vec<&'static StreamSpec>,
    replicas: u8,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        ensure_eventually(&jetstream, &streams, &[], replicas, &stop).await?;
        sleep_unless_stopped(CHECK_EVERY, &stop).await;
    }
    Ok(())
}

/// Backoff without a limit of attempts: 100 ms to 2 s, with jitter.
pub(crate) fn unlimited_backoff() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .without_max_times()
}

/// Creates or compares each stream and consumer.
///
/// # Errors
/// [`StreamsError`]
pub async fn ensure(
    jetstream: &jetstream::Context,
    streams: &[&StreamSpec],
    consumers: &[&ConsumerSpec],
    replicas: u8,
) -> Result<(), StreamsError> {
    for spec in streams {
        ensure_stream(jetstream, spec, replicas).await?;
    }
    for spec in consumers {
        ensure_consumer(jetstream, spec).await?;
    }
    Ok(())
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

async fn ensure_stream(
    jetstream: &jetstream::Context,
    spec: &StreamSpec,
    replicas: u8,
) -> Result<(), StreamsError> {
    let wanted = stream_config(spec, replicas);
    match jetstream.get_stream(spec.name).await {
        Ok(stream) => {
            let found = &stream.cached_info().config;
            // With these, the protocol does not work. A service can't change any of the others.
            let fatal =
                |difference: &Difference| ["retention", "storage"].contains(&&*difference.field);
            match differences(found, &updated(found, wanted)).into_iter().find(fatal) {
                Some(difference) => Err(difference.drift(format!("stream {}", spec.name))),
                None => Ok(()),
            }
        }
        Err(error) if is_missing(&error) => {
            let created = jetstream.create_stream(wanted).await;
            created.map_err(|error| refused(spec, &error))?;
            tracing::info!(stream = spec.name, "created a stream");
            Ok(())
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// Updates the existing streams whose settings differ from the contract. Those that become
/// smaller first: the server reserves the bytes of all. A stream that rejects new messages keeps
/// what it holds, even if that is more.
///
/// Only `passbook streams` calls it, as the operator. Services whose settings differ for the time of
/// a roll-out would undo each other's changes.
///
/// # Errors
/// If the server does not answer, has no room, or can't change a setting. In the last case, the
/// others are updated first.
pub async fn mend(
    jetstream: &jetstream::Context,
    streams: &[&StreamSpec],
    replicas: u8,
) -> Result<(), StreamsError> {
    let (mut changes, mut drift) = (Vec::new(), None);
    for spec in streams {
        let found = jetstream.get_stream(spec.name).await.map_err(unavailable)?;
        let found = &found.cached_info().config;
        let wanted = updated(found, stream_config(spec, replicas));
        let (mutable, fixed): (Vec<_>, Vec<_>) =
            differences(found, &wanted).into_iter().partition(Difference::is_mutable);
        let is_fixed = !fixed.is_empty();
        let first = fixed.into_iter().next();
        drift = drift.or(first.map(|first| first.drift(format!("stream {}", spec.name))));
        if mutable.is_empty() {
            continue;
        }
        let names: Vec<_> = mutable.into_iter().map(|difference| difference.field).collect();
        // Without a limit, the stream has reserved nothing.
        let grows = found.max_bytes < wanted.max_bytes;
        if let Some(config) = without_immutable(found, &wanted) {
            changes.push((grows, is_fixed, spec, names.join(", "), config));
        }
    }
    changes.sort_by_key(|(grows, ..)| *grows);
    for (_, is_fixed, spec, settings, config) in changes {
        match jetstream.update_stream(&config).await {
            Ok(_) => tracing::warn!(stream = spec.name, settings, "updated a stream"),
            // A sealed stream, for one.
            Err(error) if is_fixed => {
                tracing::warn!(stream = spec.name, settings, %error, "a stream was not updated");
            }
            Err(error) => return Err(refused(spec, &error)),
        }
    }
    drift.map_or(Ok(()), Err)
}

fn max_bytes(spec: &StreamSpec) -> i64 {
    i64::try_from(spec.max_bytes).unwrap_or(i64::MAX)
}

/// The codes of a server, or of each in a cluster, that has fewer unreserved bytes than a stream
/// needs.
const NO_ROOM: [ErrorCode; 3] = [
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::CLUSTER_NO_PEERS,
];

/// The error about a stream that was not created or resized.
fn refused(spec: &StreamSpec, error: &CreateStreamError) -> StreamsError {
    match error.kind() {
        CreateStreamErrorKind::JetStream(cause) if NO_ROOM.contains(&cause.error_code()) => {}
        _ => return unavailable(error),
    }
    unavailable(format!(
        "the server does not reserve {} bytes for the stream {} ({error}): raise its \
         max_file_store, or lower {STREAM_STORAGE_VARIABLE}",
        spec.max_bytes, spec.name
    ))
}

fn stream_config(spec: &StreamSpec, replicas: u8) -> stream::Config {
    stream::Config {
        name: spec.name.to_owned(),
        subjects: spec.subjects.iter().map(|&subject| subject.to_owned()).collect(),
        retention: match spec.retention {
            Retention::WorkQueue => stream::RetentionPolicy::WorkQueue,
            Retention::Limits => stream::RetentionPolicy::Limits,
        },
        discard: match spec.when_full {
            WhenFull::RejectNew => stream::DiscardPolicy::New,
            WhenFull::DiscardOldest => stream::DiscardPolicy::Old,
        },
        max_bytes: max_bytes(spec),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        storage: stream::StorageType::File,
        max_age: spec.max_age,
        duplicate_window: spec.duplicate_window,
        num_replicas: usize::from(replicas),
        // Direct gets read a stream without a consumer. A work queue does not allow them.
        allow_direct: spec.retention == Retention::Limits,
        ..stream::Config::default()
    }
}

async fn ensure_consumer(
    jetstream: &jetstream::Context,
    spec: &ConsumerSpec,
) -> Result<(), StreamsError> {
    let what = || format!("consumer {}", spec.name);
    let found = jetstream.get_consumer_from_stream::<pull::Config, _, _>(spec.name, spec.stream);
    let differences = match found.await {
        Ok(consumer) => consumer_differences(spec, &consumer.cached_info().config),
        Err(error) => match error.kind() {
            ConsumerErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND =>
            {
                let wanted = consumer_config(spec);
                let created = jetstream.create_consumer_on_stream(wanted, spec.stream).await;
                created.map_err(unavailable)?;
                tracing::info!(consumer = spec.name, "created a consumer");
                return Ok(());
            }
            ConsumerErrorKind::InvalidConsumerType => {
                let (found, wanted) = ("push".to_owned(), "pull".to_owned());
                return Err(Difference { field: "type".to_owned(), found, wanted }.drift(what()));
            }
            _ => return Err(unavailable(error)),
        },
    };
    if let Some(fixed) = differences.iter().find(|difference| !difference.is_mutable()) {
        return Err(fixed.clone().drift(what()));
    }
    if !differences.is_empty() {
        let wanted = consumer_config(spec);
        jetstream.create_consumer_on_stream(wanted, spec.stream).await.map_err(unavailable)?;
        tracing::warn!(consumer = spec.name, "updated the drifted configuration of a consumer");
    }
    Ok(())
}

fn consumer_config(spec: &ConsumerSpec) -> pull::Config {
    pull::Config {
        durable_name: Some(spec.name.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: spec.ack_wait,
        max_deliver: spec.max_deliver,
        max_ack_pending: spec.max_ack_pending,
        filter_subject: spec.filter.to_owned(),
        ..pull::Config::default()
    }
}
