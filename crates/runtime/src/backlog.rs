//! What waits in the broker, as gauges: this service's consumers, and the
//! streams that it may look at. A gauge keeps its last value for as long as the
//! broker can't be asked; that it is away is a condition of its own.

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
use contract::{ConsumerSpec, DEAD_LETTER, MOVEMENT_STREAMS, subjects};
use futures::{TryStreamExt, future::ready};
use metrics::{Unit, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(10);

/// Says what the gauges mean.
pub(crate) fn describe() {
    describe_gauge!(
        "passbook_consumer_pending_messages",
        Unit::Count,
        "Messages of the stream that the consumer has not delivered yet."
    );
    describe_gauge!(
        "passbook_consumer_unacked_messages",
        Unit::Count,
        "Messages that the consumer has delivered and nobody has acked."
    );
    describe_gauge!(
        "passbook_consumer_waiting_pulls",
        Unit::Count,
        "Pulls that wait at the server for messages. 0 for long: no worker pulls, or all are busy."
    );
    describe_gauge!("passbook_stream_messages", Unit::Count, "Messages in the stream.");
    describe_gauge!("passbook_stream_bytes", Unit::Bytes, "Size of the stream.");
    describe_gauge!(
        "passbook_dead_letters_open",
        Unit::Count,
        "Dead letters that nobody has dealt with."
    );
}

/// Asks the broker every ten seconds, until `stop`.
///
/// # Errors
/// None; the type is that of an owned task.
pub(crate) async fn watch(
    client: Client,
    jetstream: jetstream::Context,
    consumers: Vec<&'static ConsumerSpec>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        let mut pause = EVERY / 10;
        if client.connection_state() == State::Connected {
            let _ = stop.run_until_cancelled(measure(&jetstream, &consumers)).await;
            pause = EVERY;
        }
        let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    Ok(())
}

/// One that does not answer, or is not there yet, is left out.
async fn measure(jetstream: &jetstream::Context, consumers: &[&'static ConsumerSpec]) {
    for ConsumerSpec { name, stream, .. } in consumers {
        let found = jetstream.get_consumer_from_stream(*name, *stream).await;
        let found = found.inspect_err(|error| tracing::debug!(consumer = name, %error, "asking"));
        let Ok::<Consumer<pull::Config>, _>(found) = found else { continue };
        let info = found.cached_info();
        let counts = [
            ("passbook_consumer_pending_messages", info.num_pending),
            ("passbook_consumer_unacked_messages", whole(info.num_ack_pending)),
            ("passbook_consumer_waiting_pulls", whole(info.num_waiting)),
        ];
        for (metric, count) in counts {
            gauge!(metric, "stream" => *stream, "consumer" => *name).set(float(count));
        }
    }
    for name in MOVEMENT_STREAMS {
        let found = jetstream.get_stream(name).await;
        let found = found.inspect_err(|error| tracing::debug!(stream = name, %error, "asking"));
        let Ok(found) = found else { continue };
        let state = &found.cached_info().state;
        gauge!("passbook_stream_messages", "stream" => name).set(float(state.messages));
        gauge!("passbook_stream_bytes", "stream" => name).set(float(state.bytes));
        if name == DEAD_LETTER {
            match open_letters(&found).await {
                Ok(open) => gauge!("passbook_dead_letters_open").set(float(whole(open))),
                Err(error) => tracing::debug!(stream = name, %error, "asking"),
            }
        }
    }
}

/// Those that nobody has dealt with: a letter that was closed lies in the same
/// stream, on a subject with more tokens.
async fn open_letters(stream: &Stream) -> Result<usize, InfoError> {
    let open = format!("{}.*.*", subjects::DEAD_LETTER_PREFIX);
    let subjects = stream.info_with_subjects(open).await?;
    subjects.try_fold(0_usize, |sum, (_, count)| ready(Ok(sum.saturating_add(count)))).await
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[expect(clippy::as_conversions, reason = "there is no other way; exact up to 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}
