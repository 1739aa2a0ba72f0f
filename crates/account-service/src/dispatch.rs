//! Sends the command of a record right after its commit. The record is the
//! outbox: what does not get through here is sent again by `redrive`.

use async_nats::{Client, HeaderMap, connection::State, jetstream};
use contract::Command;
use runtime::{
    publish::{Outgoing, publish_all},
    trace::Trace,
};
use tokio::sync::mpsc;

/// Commands on their way to the broker at most; what comes on top waits for
/// the redrive.
const CAPACITY: usize = 10_000;
const AT_ONCE: usize = 500;

/// Where the commands of accepted records go.
#[derive(Debug, Clone)]
pub struct Dispatch(mpsc::Sender<Outgoing>);

/// The other end of a [`Dispatch`].
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Outgoing>);

/// Makes both ends.
#[must_use]
pub fn channel() -> (Dispatch, Commands) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Dispatch(sender), Commands(receiver))
}

impl Dispatch {
    /// Hands a command on without waiting. Never fails the caller, whose
    /// record is safe.
    pub fn send(&self, command: &Command, trace: Trace) {
        match message(command, command.record_id.to_string(), trace) {
            Ok(message) => {
                if self.0.try_send(message).is_err() {
                    left_to_redrive(1, "too many commands are on their way");
                }
            }
            Err(error) => left_to_redrive(1, &error.to_string()),
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
) -> serde_json::Result<Outgoing> {
    Ok(Outgoing {
        subject: command.kind.command_subject().to_owned(),
        message_id,
        trace,
        headers: HeaderMap::new(),
        payload: serde_json::to_vec(command)?.into(),
    })
}

impl Commands {
    /// Publishes until every [`Dispatch`] is gone and all was sent.
    ///
    /// # Errors
    /// None; the type is that of an owned task.
    pub async fn run(
        mut self,
        client: Client,
        jetstream: jetstream::Context,
    ) -> anyhow::Result<()> {
        let mut messages = Vec::with_capacity(AT_ONCE);
        while self.0.recv_many(&mut messages, AT_ONCE).await > 0 {
            if client.connection_state() != State::Connected {
                left_to_redrive(messages.len(), "not connected to NATS");
            } else if let Err(missing) = publish_all(&jetstream, &messages).await {
                left_to_redrive(missing.positions.len(), &missing.reason);
            }
            messages.clear();
        }
        Ok(())
    }
}

fn left_to_redrive(commands: usize, reason: &str) {
    tracing::warn!(commands, reason, "commands were not sent; the redrive will");
    metrics::counter!("passbook_commands_unsent_total")
        .increment(u64::try_from(commands).unwrap_or(u64::MAX));
}
