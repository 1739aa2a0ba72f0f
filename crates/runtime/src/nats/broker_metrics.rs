//! Gauges of the broker: the backlog of this service's consumers, and the size
//! of their streams. While the broker is unreachable a gauge keeps its last
//! value; `passbook_condition_up` reports the outage.
//!
//! A stream near its limit is a condition of its own, because it will reject messages.

use std::time::Duration;

use async_nats::{
    Client,
    connection::State,
    jetstream::{
        self,
        consumer::{Consumer, pull},
        stream::{Config, DiscardPolicy, InfoError, State as StreamState, Stream},
    },
};
use contract::{ConsumerSpec, DEAD_LETTER, dead_letter};
use futures::{TryStreamExt, future::ready};
use metrics::{Unit, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

use crate::{
    health::Health,
    tasks::sleep_unless_stopped,
    telemetry::metrics::{count, float},
};

const EVERY: Duration = Duration::from_secs(10);
/// The condition about the sizes of the streams.
pub(crate) const CONDITION: &str = "streams";
/// The used part of a limit at which the condition is down, in percent. Alerts and `passbook
/// doctor` tell far earlier.
const NEARLY_FULL: u64 = 90;

/// Describes the gauges.
pub(crate) fn describe() {
    describe_gauge!(
        "passbook_consumer_pending_messages",
        Unit::Count,
        "Messages that the consumer has not delivered yet."
    );
    describe_gauge!(
        "passbook_consumer_unacked_messages",
        Unit::Count,
        "Messages that are delivered and not acked yet."
    );
    describe_gauge!(
        "passbook_consumer_unacked_limit",
        Unit::Count,
        "Maximum unacked messages (max_ack_pending). At it, the broker delivers no further message \
         until one is acked or its ack wait has ended."
    );
    describe_gauge!(
        "passbook_consumer_waiting_pulls",
        Unit::Count,
        "Pull requests waiting for messages. If it stays 0, no worker runs, or all are busy."
    );
    describe_gauge!("passbook_stream_messages", Unit::Count, "Messages in the stream.");
    describe_gauge!("passbook_stream_bytes", Unit::Bytes, "Size of the stream.");
    describe_gauge!(
        "passbook_stream_limit_bytes",
        Unit::Bytes,
        "Maximum size of the stream. At it, TRANSACTION_RESULT discards its oldest messages, and \
         the other streams reject new ones."
    );
    describe_gauge!(
        "passbook_dead_letters_unstored",
        Unit::Count,
        "Messages that this process keeps because DEAD_LETTER stores no dead letter of them."
    );
    describe_gauge!(
        "passbook_dead_letters_open",
        Unit::Count,
        "Dead letters that are neither replayed nor discarded."
    );
}

/// Updates the gauges every ten seconds, until `stop`.
pub(crate) async fn watch(
    client: Client,
    jetstream: jetstream::Context,
    consumers: Vec<&'static ConsumerSpec>,
    streams: Vec<&'static str>,
    health: Health,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let mut pause = EVERY / 10;
        if client.connection_state() == State::Connected {
            let update = update(&jetstream, &consumers, &streams);
            if let Some(nearly_full) = stop.run_until_cancelled(update).await {
                health.set(CONDITION, nearly_full);
            }
            pause = EVERY;
        }
        sleep_unless_stopped(pause, &stop).await;
    }
}

/// Sets all gauges. Skips a stream or consumer if the server does not answer, or if
/// it does not exist yet. Returns which streams are nearly full.
async fn update(
    jetstream: &jetstream::Context,
    consumers: &[&'static ConsumerSpec],
    streams: &[&'static str],
) -> Option<String> {
    let mut nearly_full = Vec::new();
    for ConsumerSpec { name, stream, .. } in consumers {
        let found = jetstream.get_consumer_from_stream(*name, *stream).await;
        let found = found.inspect_err(|error| tracing::debug!(consumer = name, %error, "asking"));
        let Ok::<Consumer<pull::Config>, _>(found) = found else { continue };
        let info = found.cached_info();
        // Negative: without a limit.
        if let Ok(limit @ 1..) = u64::try_from(info.config.max_ack_pending) {
            gauge!("passbook_consumer_unacked_limit", "stream" => *stream, "consumer" => *name)
                .set(float(limit));
        }
        let counts = [
            ("passbook_consumer_pending_messages", info.num_pending),
            ("passbook_consumer_unacked_messages", count(info.num_ack_pending)),
            ("passbook_consumer_waiting_pulls", count(info.num_waiting)),
        ];
        for (metric, count) in counts {
            gauge!(metric, "stream" => *stream, "consumer" => *name).set(float(count));
        }
    }
    for &name in streams {
        let found = jetstream.get_stream(name).await;
        let found = found.inspect_err(|error| tracing::debug!(stream = name, %error, "asking"));
        let Ok(found) = found else { continue };
        let info = found.cached_info();
        let state = &info.state;
        nearly_full.extend(describe_nearly_full(&info.config, state));
        if let Ok(limit @ 1..) = u64::try_from(info.config.max_bytes) {
            gauge!("passbook_stream_limit_bytes", "stream" => name).set(float(limit));
        }
        gauge!("passbook_stream_messages", "stream" => name).set(float(state.messages));
        gauge!("passbook_stream_bytes", "stream" => name).set(float(state.bytes));
        if name == DEAD_LETTER {
            match open_dead_letters(&found).await {
                Ok(open) => gauge!("passbook_dead_letters_open").set(float(count(open))),
                Err(error) => tracing::debug!(stream = name, %error, "asking"),
            }
        }
    }
    (!nearly_full.is_empty()).then(|| nearly_full.join("; "))
}

/// A stream that will soon reject messages; `None` for any other.
fn describe_nearly_full(config: &Config, state: &StreamState) -> Option<String> {
    let limit = u64::try_from(config.max_bytes).ok().filter(|limit| *limit > 0)?;
    let used = state.bytes.saturating_mul(100) / limit;
    (config.discard == DiscardPolicy::New && used >= NEARLY_FULL).then(|| {
        format!("the stream {} is nearly full: {} of {limit} bytes", config.name, state.bytes)
    })
}

/// The number of open dead letters. Closed ones are on longer subjects.
async fn open_dead_letters(stream: &Stream) -> Result<usize, InfoError> {
    let subjects = stream.info_with_subjects(dead_letter::open_subjects("*")).await?;
    subjects.try_fold(0_usize, |sum, (_, messages)| ready(Ok(sum.saturating_add(messages)))).await
}
