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
//!
//! The floor of a round is compared with sequences only, never with a time: the clocks of
//! the broker and of this process may differ.

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

/// A work queue, and the decision about its messages that no worker settles any more.
#[derive(Debug)]
pub struct WorkQueue<E> {
    /// The connection, to check its state.
    pub client: Client,
    /// Reads, publishes and deletes messages.
    pub jetstream: jetstream::Context,
    /// The stream.
    pub stream: &'static StreamSpec,
    /// Its consumer.
    pub consumer: &'static ConsumerSpec,
    /// Decides about each message.
    pub exhausted: Arc<E>,
}

impl<E: Exhausted> WorkQueue<E> {
    /// Settles the messages up to this sequence, 1,000 at most.
    ///
    /// # Errors
    /// If the broker or the decision is unavailable. Some messages may be settled.
    pub async fn settle_until(&self, sequence: u64, reason: &str) -> anyhow::Result<()> {
        let stream = self.jetstream.get_stream_no_info(self.stream.name).await?;
        let mut from = 1;
        for _ in 0..MAX_MESSAGES {
            let next = stream.get_first_raw_message_by_subject(self.consumer.filter, from).await;
            let message = match next {
                Ok(message) if message.sequence <= sequence => message,
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            from = message.sequence + 1;
            let reason = self.exhausted.settle(&message, reason.to_owned()).await?;
            let queue = (self.stream, self.consumer);
            settle_stored(&self.client, &self.jetstream, queue, &message, reason).await?;
        }
        Ok(())
    }

    /// Settles messages that are not redelivered any more, until `stop`.
    pub(crate) async fn sweep(self, stop: CancellationToken) {
        let mut last = None;
        while sleep_unless_stopped(EVERY, &stop).await {
            if self.client.connection_state() != State::Connected {
                continue;
            }
            match stop.run_until_cancelled(self.round(&mut last)).await {
                Some(Err(error)) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        consumer = self.consumer.name,
                        error,
                        "sweeping the queue failed; the next round retries"
                    );
                }
                Some(Ok(())) => {}
                None => return,
            }
        }
    }

    async fn round(&self, last: &mut Option<FloorOf>) -> anyhow::Result<()> {
        let stream = self.jetstream.get_stream(self.stream.name).await?;
        let created = stream.cached_info().created;
        let consumer: Consumer<pull::Config> =
            self.jetstream.get_consumer_from_stream(self.consumer.name, self.stream.name).await?;
        let info = consumer.cached_info();
        let unacked = info.num_ack_pending > 0;
        let floor = if unacked { info.ack_floor } else { info.delivered }.stream_sequence;
        let now = FloorOf { created, floor };
        let Some(before) = last.replace(now) else { return Ok(()) };
        let Some(floor) = now.settled_since(before) else { return Ok(()) };
        self.settle_until(floor, "not redelivered any more, and never settled").await
    }
}

/// The floor at the time of a round, and the stream that its sequences belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FloorOf {
    /// Names the stream: a recreated one has another time, and sequences from 1.
    created: OffsetDateTime,
    floor: u64,
}

impl FloorOf {
    /// The highest sequence below the floors of both rounds. `None` if the stream was
    /// recreated meanwhile. The floor falls if the broker's store was restored from a copy.
    fn settled_since(self, before: Self) -> Option<u64> {
        (self.created == before.created).then_some(self.floor.min(before.floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recreated_stream_or_a_lower_floor_protects_new_messages_under_old_sequences() {
        let of = |created: i64, floor| FloorOf {
            created: OffsetDateTime::from_unix_timestamp(created).unwrap(),
            floor,
        };
        assert_eq!(of(1, 20).settled_since(of(1, 10)), Some(10));
        assert_eq!(of(1, 5).settled_since(of(1, 10)), Some(5));
        // Recreated, by a clock that is ahead or behind.
        assert_eq!(of(2, 20).settled_since(of(1, 10)), None);
        assert_eq!(of(1, 20).settled_since(of(2, 10)), None);
    }
}
