//! Commands in, results out: what the pull loop does with a batch of commands.

use async_nats::HeaderMap;
use contract::{Command, MovementResult};
use runtime::{
    publish::Outgoing,
    trace::Commit,
    worker::{Delivery, Failure, Handler, Verdict},
};

use crate::store::Ledger;

/// Applies commands to the ledger.
#[derive(Debug)]
pub struct ApplyCommands {
    /// Where they are applied.
    pub ledger: Ledger,
}

impl Handler for ApplyCommands {
    async fn process(&self, batch: &[Delivery]) -> Result<Vec<Verdict>, Failure> {
        let read: Vec<_> = batch.iter().map(read).collect();
        let commands: Vec<Command> = read.iter().flatten().cloned().collect();
        let commit = Commit::begin("INSERT", "transactions");
        let applied = self.ledger.apply(&commands).await;
        let traces = batch.iter().zip(&read).filter(|it| it.1.is_ok()).map(|it| &it.0.trace);
        commit.end(commands.len(), traces, applied.as_ref().err());
        let mut results = applied?.into_iter();
        let mut verdicts = Vec::with_capacity(batch.len());
        for (delivery, command) in batch.iter().zip(read) {
            verdicts.push(match command {
                Err(reason) => Verdict::DeadLetter(reason),
                Ok(command) => match results.next().flatten() {
                    Some(result) => Verdict::Done(Some(outgoing(delivery, &result)?)),
                    None => Verdict::DeadLetter(format!(
                        "record {} was decided for another movement than this command asks for",
                        command.record_id
                    )),
                },
            });
        }
        Ok(verdicts)
    }
}

/// The command in a message, or why it is none.
fn read(delivery: &Delivery) -> Result<Command, String> {
    let command: Command = serde_json::from_slice(&delivery.payload)
        .map_err(|error| format!("not a command: {error}"))?;
    if command.kind.command_subject() == delivery.subject {
        Ok(command)
    } else {
        Err(format!("a {} on the subject {}", command.kind, delivery.subject))
    }
}

/// The result's message id is the command's: delivered twice, a command gives
/// one result within the duplicate window; sent again by a redrive, which has
/// an id of its own, it gives another.
fn outgoing(delivery: &Delivery, result: &MovementResult) -> Result<Outgoing, Failure> {
    let payload = serde_json::to_vec(result).map_err(|error| Failure::Other(error.into()))?;
    Ok(Outgoing {
        subject: result.kind.result_subject().to_owned(),
        message_id: delivery.message_id.clone(),
        trace: delivery.trace,
        again_for: None,
        headers: HeaderMap::new(),
        payload: payload.into(),
    })
}
