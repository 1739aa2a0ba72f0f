//! Gauges of the broker: the backlog of this service's consumers, and the size
//! of their streams. While the broker is unreachable a gauge keeps its last
//! value; `passbook_condition_up` reports the outage.

use std::time::Duration;

use async_nats::{
    Client,
    connection::State,
    jetstream::{
        self,
        consumer::{Consumer, pull},
        stream::{InfoError, Stream},
    },
};
use contract::{ConsumerSpec, DEAD_LETTER, dead_letter};
use futures::{TryStreamExt, future::ready};
use metrics::{Unit, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

use crate::{
    tasks::sleep_unless_stopped,
    telemetry::metrics::{count, float},
};

const EVERY: Duration = Duration::from_secs(10);

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
        "passbook_consumer_waiting_pulls",
        Unit::Count,
        "Pull requests waiting for messages. If it stays 0, no worker runs, or all are busy."
    );
    describe_gauge!("passbook_stream_messages", Unit::Count, "Messages in the stream.");
    describe_gauge!("passbook_stream_bytes", Unit::Bytes, "Size of the stream.");
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
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let mut pause = EVERY / 10;
        if client.connection_state() == State::Connected {
            let _ = stop.run_until_cancelled(update(&jetstream, &consumers, &streams)).await;
            pause = EVERY;
        }
        sleep_unless_stopped(pause, &stop).await;
    }
}

/// Sets all gauges. Skips a stream or consumer if the server does not answer, or if
/// it does not exist yet.
async fn update(
    jetstream: &jetstream::Context,
    consumers: &[&'static ConsumerSpec],
    streams: &[&'static str],
) {
    for ConsumerSpec { name, stream, .. } in consumers {
        let found = jetstream.get_consumer_from_stream(*name, *stream).await;
        let found = found.inspect_err(|error| tracing::debug!(consumer = name, %error, "asking"));
        let Ok::<Consumer<pull::Config>, _>(found) = found else { continue };
        let info = found.cached_info();
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
        let state = &found.cached_info().state;
        gauge!("passbook_stream_messages", "stream" => name).set(float(state.messages));
        gauge!("passbook_stream_bytes", "stream" => name).set(float(state.bytes));
        if name == DEAD_LETTER {
            match open_dead_letters(&found).await {
                Ok(open) => gauge!("passbook_dead_letters_open").set(float(count(open))),
                Err(error) => tracing::debug!(stream = name, %error, "asking"),
            }
        }
    }
}

/// The number of open dead letters. Closed ones are on longer subjects.
async fn open_dead_letters(stream: &Stream) -> Result<usize, InfoError> {
    let subjects = stream.info_with_subjects(dead_letter::open_subjects("*")).await?;
    subjects.try_fold(0_usize, |sum, (_, messages)| ready(Ok(sum.saturating_add(messages)))).await
}
