//! What the advisories missed. The server sends them without persistence: one
//! that is lost leaves a message in its work queue that is delivered no more,
//! and that nobody would ever hear of.
//!
//! Such a message is known by its place: a work queue removes what is settled,
//! and all that its consumer has in hand, or will deliver again, lies above the
//! consumer's ack floor; above all that it delivered, if nothing is in hand. So
//! what lay below it half a minute ago, and is still there, is neither settled
//! nor in hand. Where some message is always in hand, the floor may stay where
//! it is; then it is found at the first moment when none is.

use std::time::Duration;

use async_nats::{
    Client,
    connection::State,
    jetstream::{
        self,
        consumer::{Consumer, pull},
        stream::LastRawMessageErrorKind,
    },
};
use contract::ConsumerSpec;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::used_up::bury;

/// Far longer than a message that was acked takes to leave the queue on each
/// copy of it.
const EVERY: Duration = Duration::from_secs(30);
/// Messages looked at in a round at most.
const AT_ONCE: usize = 1000;

/// Looks for messages of a work queue that its consumer delivers no more, and
/// makes them dead letters, until `stop`.
///
/// # Errors
/// None; the type is that of an owned task.
pub(crate) async fn sweep(
    client: Client,
    jetstream: jetstream::Context,
    consumer: &'static ConsumerSpec,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut last = None;
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        if client.connection_state() != State::Connected {
            continue;
        }
        let round = round(&client, &jetstream, consumer, &mut last);
        match stop.run_until_cancelled(round).await {
            Some(Err(error)) => {
                let error = format!("{error:#}");
                tracing::warn!(consumer = consumer.name, error, "the queue was not swept");
            }
            Some(Ok(())) => {}
            None => return Ok(()),
        }
    }
    Ok(())
}

/// What was below the floor when.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: OffsetDateTime,
    floor: u64,
}

async fn round(
    client: &Client,
    jetstream: &jetstream::Context,
    spec: &ConsumerSpec,
    last: &mut Option<Look>,
) -> anyhow::Result<()> {
    let consumer: Consumer<pull::Config> =
        jetstream.get_consumer_from_stream(spec.name, spec.stream).await?;
    let info = consumer.cached_info();
    let in_hand = info.num_ack_pending > 0;
    let floor = if in_hand { info.ack_floor } else { info.delivered }.stream_sequence;
    let look = Look { at: OffsetDateTime::now_utc(), floor };
    let Some(before) = last.replace(look) else { return Ok(()) };
    let stream = jetstream.get_stream_no_info(spec.stream).await?;
    let mut from = 1;
    for _ in 0..AT_ONCE {
        let message = match stream.get_first_raw_message_by_subject(spec.filter, from).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // One that was stored since then is another stream's, made anew, which counts from one.
        if message.sequence > before.floor || message.time > before.at {
            return Ok(());
        }
        from = message.sequence + 1;
        bury(client, jetstream, spec, &message, "delivered no more, and never settled").await?;
    }
    Ok(())
}
