//! Sends the command of a record right after its commit. The record is the outbox:
//! once it reaches a certain age, `redrive` sends its command. Until then this module
//! retries, so that a leader election or a short outage causes no further delay.
//!
//! Commands that wait in the queue together share messages. Nothing waits for company: a
//! single command is sent at once, alone.

use std::time::Duration;

use async_nats::{Client, HeaderMap, connection::State, jetstream};
use contract::{Command, bundle::Bundle};
use runtime::{
    failpoint,
    nats::{
        outgoing::{Outgoing, Sharing},
        publish::publish_all,
    },
    telemetry::{metrics::count, trace::Trace},
};
use tokio::{sync::mpsc, time::Instant};

/// Maximum queued commands. Further commands are left to the redrive.
const CAPACITY: usize = 10_000;
/// Maximum commands published at once.
const MAX_BATCH: usize = 500;
/// Time limit of a wait for room in the queue.
const ROOM_LIMIT: Duration = Duration::from_millis(100);
/// The pause between attempts.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// Queues the commands of accepted records.
#[derive(Debug, Clone)]
pub struct Dispatch {
    queue: mpsc::Sender<QueuedCommand>,
    /// Maximum commands of a message.
    most: u8,
}

/// Publishes the commands of a [`Dispatch`].
#[derive(Debug)]
pub struct Publisher(mpsc::Receiver<QueuedCommand>);

#[derive(Debug)]
struct QueuedCommand {
    message: Outgoing,
    since: Instant,
}

/// Creates both ends of the queue. At most `most` commands share a message.
#[must_use]
pub fn channel(most: u8) -> (Dispatch, Publisher) {
    let (queue, receiver) = mpsc::channel(CAPACITY);
    (Dispatch { queue, most }, Publisher(receiver))
}

impl Dispatch {
    /// Waits up to 100 ms for room for this many commands. This slows the caller down
    /// while records are accepted faster than commands are sent, because a redrive
    /// costs more. While the broker is unreachable, the caller continues.
    pub async fn wait_for_room(&self, commands: usize) {
        let room = self.queue.reserve_many(commands.min(CAPACITY));
        let _ = tokio::time::timeout(ROOM_LIMIT, room).await;
    }

    /// Queues commands without waiting. It can't fail: the records are committed, and
    /// the redrive sends the commands that don't fit into the queue.
    pub fn send(&self, commands: impl Iterator<Item = (Command, Trace)>) {
        let mut unsent = 0;
        for (command, trace) in commands {
            match message(&command, command.record_id.to_string(), trace, None) {
                Ok(mut message) => {
                    message.sharing = Some(sharing(self.most));
                    let queued = QueuedCommand { message, since: Instant::now() };
                    unsent += usize::from(self.queue.try_send(queued).is_err());
                }
                Err(error) => report_unsent(1, &error.to_string()),
            }
        }
        if unsent > 0 {
            report_unsent(unsent, "the queue is full");
        }
    }
}

/// Commands share messages, at most `most` in one.
pub(crate) const fn sharing(most: u8) -> Sharing {
    Sharing { content: Bundle::Commands, most }
}

/// The message of a command that travels alone. `redrive_of` is the original request's trace, if
/// this is a redrive.
///
/// # Errors
/// If the command can't be serialized.
pub fn message(
    command: &Command,
    message_id: String,
    trace: Trace,
    redrive_of: Option<Trace>,
) -> serde_json::Result<Outgoing> {
    Ok(Outgoing {
        subject: command.kind.command_subject().to_owned(),
        message_id,
        trace,
        redrive_of,
        headers: HeaderMap::new(),
        payload: serde_json::to_vec(command)?.into(),
        sharing: None,
    })
}

impl Publisher {
    /// Publishes until every [`Dispatch`] is dropped and the queue is empty. Commands
    /// older than `redrive_after` are left to the redrive.
    pub async fn run(
        mut self,
        client: Client,
        jetstream: jetstream::Context,
        redrive_after: Duration,
    ) {
        let mut received = Vec::with_capacity(MAX_BATCH);
        while self.0.recv_many(&mut received, MAX_BATCH).await > 0 {
            let (since, mut messages): (Vec<_>, Vec<_>) =
                received.drain(..).map(|queued| (queued.since, queued.message)).unzip();
            failpoint::point("dispatch.received", &messages);
            let newest = since.into_iter().max().unwrap_or_else(Instant::now);
            while let Err(reason) = send(&client, &jetstream, &mut messages).await {
                if newest.elapsed() > redrive_after {
                    report_unsent(messages.len(), &reason);
                    break;
                }
                tokio::time::sleep(RETRY_EVERY).await;
            }
        }
    }
}

/// Publishes the messages, and keeps those to be published again. Refused ones are left to the
/// redrive: an operator may have removed the cause by then.
async fn send(
    client: &Client,
    jetstream: &jetstream::Context,
    messages: &mut Vec<Outgoing>,
) -> Result<(), String> {
    if client.connection_state() != State::Connected {
        return Err("not connected to NATS".to_owned());
    }
    let Err(missing) = publish_all(jetstream, messages).await else { return Ok(()) };
    if !missing.refused.is_empty() {
        report_unsent(missing.refused.len(), &missing.reason);
    }
    let mut at = 0..;
    messages.retain(|_| at.next().is_some_and(|at| missing.is_retryable(at)));
    if messages.is_empty() { Ok(()) } else { Err(missing.reason) }
}

fn report_unsent(commands: usize, reason: &str) {
    tracing::warn!(commands, reason, "commands were not sent; the redrive sends them");
    metrics::counter!("passbook_commands_unsent_total").increment(count(commands));
}

#[cfg(test)]
mod tests {
    use contract::{AccountId, Amount, Currency, Kind, RecordId};
    use futures::FutureExt;
    use time::OffsetDateTime;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_delays_acceptance_but_does_not_block_it() {
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
        let (dispatch, mut publisher) = channel(100);
        dispatch.send((0..CAPACITY - 99).map(|_| (command.clone(), Trace::of_message(None))));
        assert!(dispatch.wait_for_room(99).now_or_never().is_some());
        let begun = Instant::now();
        dispatch.wait_for_room(100).await;
        assert!(begun.elapsed() >= ROOM_LIMIT, "{:?}", begun.elapsed());
        publisher.0.recv().await.unwrap();
        assert!(dispatch.wait_for_room(100).now_or_never().is_some());
        // One command too many: it is left to the redrive.
        dispatch.send((0..101).map(|_| (command.clone(), Trace::of_message(None))));
        assert_eq!(publisher.0.len(), CAPACITY);
    }
}
