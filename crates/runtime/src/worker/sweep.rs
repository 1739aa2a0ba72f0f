//! Finds messages whose advisory was lost. The server publishes advisories without
//! persistence. After a lost advisory, a message stays in its work queue without
//! being redelivered or reported.
//!
//! The position in the queue identifies such a message. A work queue deletes
//! settled messages. Unacked messages, and those to be redelivered, are above
//! the consumer's ack floor; without unacked messages they are above the last
//! delivered sequence. A message that was below this floor 30 seconds ago and
//! still exists is neither settled nor in process. While there is always some unacked
//! message, the floor may not move. The sweep then finds the message in the first
//! moment without unacked messages.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client,
    connection::State,
    jetstream::{
        self,
        consumer::{Consumer, pull},
        stream::LastRawMessageErrorKind,
    },
};
use contract::{ConsumerSpec, StreamSpec};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::max_deliveries::{Exhausted, settle_stored};
use crate::tasks::sleep_unless_stopped;

/// The interval between rounds: far longer than all replicas of the queue take to
/// delete an acked message.
const EVERY: Duration = Duration::from_secs(30);
/// Maximum settled messages in a round.
const MAX_MESSAGES: usize = 1000;

/// Settles messages of a work queue that are not redelivered any more, until `stop`.
pub(crate) async fn sweep<E: Exhausted>(
    client: Client,
    jetstream: jetstream::Context,
    queue: (&'static StreamSpec, &'static ConsumerSpec),
    exhausted: Arc<E>,
    stop: CancellationToken,
) {
    let mut last = None;
    while sleep_unless_stopped(EVERY, &stop).await {
        if client.connection_state() != State::Connected {
            continue;
        }
        let round = round(&client, &jetstream, queue, &*exhausted, &mut last);
        match stop.run_until_cancelled(round).await {
            Some(Err(error)) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    consumer = queue.1.name,
                    error,
                    "sweeping the queue failed; the next round retries"
                );
            }
            Some(Ok(())) => {}
            None => return,
        }
    }
}

/// The floor at the time of a round.
#[derive(Debug, Clone, Copy)]
struct FloorAt {
    at: OffsetDateTime,
    floor: u64,
}

async fn round(
    client: &Client,
    jetstream: &jetstream::Context,
    (stream_spec, spec): (&StreamSpec, &ConsumerSpec),
    exhausted: &impl Exhausted,
    last: &mut Option<FloorAt>,
) -> anyhow::Result<()> {
    let consumer: Consumer<pull::Config> =
        jetstream.get_consumer_from_stream(spec.name, spec.stream).await?;
    let info = consumer.cached_info();
    let unacked = info.num_ack_pending > 0;
    let floor = if unacked { info.ack_floor } else { info.delivered }.stream_sequence;
    let now = FloorAt { at: OffsetDateTime::now_utc(), floor };
    let Some(before) = last.replace(now) else { return Ok(()) };
    let stream = jetstream.get_stream_no_info(spec.stream).await?;
    let mut from = 1;
    for _ in 0..MAX_MESSAGES {
        let message = match stream.get_first_raw_message_by_subject(spec.filter, from).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // A message stored since that round belongs to a recreated stream, with sequences from 1.
        if message.sequence > before.floor || message.time > before.at {
            return Ok(());
        }
        from = message.sequence + 1;
        let reason = "not redelivered any more, and never settled".to_owned();
        let reason = exhausted.settle(&message, reason).await?;
        settle_stored(client, jetstream, (stream_spec, spec), &message, reason).await?;
    }
    Ok(())
}
