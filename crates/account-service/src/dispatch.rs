//! Sends the command of a record right after its commit. The record is the
//! outbox: what does not get through here is sent again by `redrive`, which
//! takes it up at a certain age. Until then a command is tried here again and
//! again, so that a leader's election or a short outage costs only itself.

use std::time::Duration;

use async_nats::{Client, HeaderMap, connection::State, jetstream};
use contract::Command;
use runtime::{
    crash,
    publish::{Outgoing, publish_all},
    trace::Trace,
};
use tokio::{sync::mpsc, time::Instant};

/// Commands on their way to the broker at most; what comes on top waits for
/// the redrive.
const CAPACITY: usize = 10_000;
const AT_ONCE: usize = 500;
/// The longest wait for room.
const ROOM: Duration = Duration::from_millis(100);
/// Between attempts.
const AGAIN: Duration = Duration::from_millis(100);

/// Where the commands of accepted records go.
#[derive(Debug, Clone)]
pub struct Dispatch(mpsc::Sender<Waiting>);

/// The other end of a [`Dispatch`].
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Waiting>);

/// A command on its way.
#[derive(Debug)]
struct Waiting {
    message: Outgoing,
    since: Instant,
}

/// Makes both ends.
#[must_use]
pub fn channel() -> (Dispatch, Commands) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Dispatch(sender), Commands(receiver))
}

impl Dispatch {
    /// Waits until so many commands have room, but not for long. Who accepts
    /// faster than commands can be sent is slowed down by this: what is left to
    /// the redrive costs more. While the broker is away it goes on all the same.
    pub async fn room(&self, commands: usize) {
        let room = self.0.reserve_many(commands.min(CAPACITY));
        let _ = tokio::time::timeout(ROOM, room).await;
    }

    /// Hands commands on without waiting. Never fails the caller, whose records
    /// are safe.
    pub fn send(&self, commands: impl Iterator<Item = (Command, Trace)>) {
        let mut left = 0;
        for (command, trace) in commands {
            match message(&command, command.record_id.to_string(), trace, None) {
                Ok(message) => {
                    let waiting = Waiting { message, since: Instant::now() };
                    left += usize::from(self.0.try_send(waiting).is_err());
                }
                Err(error) => left_to_redrive(1, &error.to_string()),
            }
        }
        if left > 0 {
            left_to_redrive(left, "too many commands are on their way");
        }
    }
}

/// A command as a message with this id.
///
/// # Errors
/// If it can't be written as JSON.
pub fn message(
    command: &Command,
    message_id: String,
    trace: Trace,
    again_for: Option<Trace>,
) -> serde_json::Result<Outgoing> {
    Ok(Outgoing {
        subject: command.kind.command_subject().to_owned(),
        message_id,
        trace,
        again_for,
        headers: HeaderMap::new(),
        payload: serde_json::to_vec(command)?.into(),
    })
}

impl Commands {
    /// Publishes until every [`Dispatch`] is gone and all was sent, or was too
    /// old: at the age `redrive_after` a command is the redrive's.
    pub async fn run(
        mut self,
        client: Client,
        jetstream: jetstream::Context,
        redrive_after: Duration,
    ) {
        let mut received = Vec::with_capacity(AT_ONCE);
        while self.0.recv_many(&mut received, AT_ONCE).await > 0 {
            let (since, mut messages): (Vec<_>, Vec<_>) =
                received.drain(..).map(|it| (it.since, it.message)).unzip();
            crash::point("dispatch.received", &messages);
            // In the order of their acceptance: the newest is the last.
            let newest = since.into_iter().max().unwrap_or_else(Instant::now);
            while let Err(reason) = send(&client, &jetstream, &mut messages).await {
                if newest.elapsed() > redrive_after {
                    left_to_redrive(messages.len(), &reason);
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Publishes the messages and keeps those that got no PubAck.
async fn send(
    client: &Client,
    jetstream: &jetstream::Context,
    messages: &mut Vec<Outgoing>,
) -> Result<(), String> {
    if client.connection_state() != State::Connected {
        return Err("not connected to NATS".to_owned());
    }
    let Err(missing) = publish_all(jetstream, messages).await else { return Ok(()) };
    let mut at = 0..;
    messages.retain(|_| at.next().is_some_and(|at| missing.positions.binary_search(&at).is_ok()));
    Err(missing.reason)
}

fn left_to_redrive(commands: usize, reason: &str) {
    tracing::warn!(commands, reason, "commands were not sent; the redrive will");
    metrics::counter!("passbook_commands_unsent_total")
        .increment(u64::try_from(commands).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use contract::{AccountId, Amount, Currency, Kind, RecordId};
    use futures::FutureExt;
    use time::OffsetDateTime;

    use super::*;

    #[tokio::test]
    async fn who_accepts_more_than_is_sent_waits_for_room_and_not_for_ever() {
        let currency = Currency::parse("KRW").unwrap();
        let command = Command {
            record_id: RecordId::new(),
            account_id: AccountId::new(),
            user_id: "teller".to_owned().try_into().unwrap(),
            kind: Kind::Deposit,
            amount: Amount::parse("1", currency).unwrap(),
            currency,
            requested_at: OffsetDateTime::UNIX_EPOCH,
        };
        let (dispatch, mut commands) = channel();
        dispatch.send((0..CAPACITY - 99).map(|_| (command.clone(), Trace::of_message(None))));
        assert!(dispatch.room(99).now_or_never().is_some());
        let begun = Instant::now();
        dispatch.room(100).await;
        assert!(begun.elapsed() >= ROOM, "{:?}", begun.elapsed());
        commands.0.recv().await.unwrap();
        assert!(dispatch.room(100).now_or_never().is_some());
        // One more than there is room for is the redrive's; nothing else changes.
        dispatch.send((0..101).map(|_| (command.clone(), Trace::of_message(None))));
        assert_eq!(commands.0.len(), CAPACITY);
    }
}
