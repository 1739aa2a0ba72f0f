//! Applies commands: handles batches of commands.

use async_nats::HeaderMap;
use contract::{Command, TransactionResult, bundle::Bundle};
use runtime::{
    nats::outgoing::{Outgoing, Sharing},
    telemetry::trace::Commit,
    worker::{Delivery, Failure, Handler, Verdict},
};

use crate::store::{Applied, Ledger};

/// Handles commands.
#[derive(Debug)]
pub struct ApplyCommands {
    pub ledger: Ledger,
    /// Maximum results of a message.
    pub message_parts: u8,
}

impl Handler for ApplyCommands {
    async fn process(&self, batch: &[Delivery]) -> Result<Vec<Verdict>, Failure> {
        let parse = |delivery: &Delivery| Command::parse(&delivery.subject, &delivery.payload);
        let parsed: Vec<_> = batch.iter().map(parse).collect();
        let commands: Vec<Command> = parsed.iter().flatten().cloned().collect();
        let commit = Commit::begin("INSERT", "transactions");
        let applied = self.ledger.apply_unlocked(&commands).await;
        let valid = batch.iter().zip(&parsed).filter(|(_, parsed)| parsed.is_ok());
        commit.end(
            commands.len(),
            valid.map(|(delivery, _)| &delivery.trace),
            applied.as_ref().err(),
        );
        let mut results = applied?.into_iter();
        let mut verdicts = Vec::with_capacity(batch.len());
        for (delivery, parsed) in batch.iter().zip(parsed) {
            verdicts.push(match parsed {
                Err(invalid) => Verdict::DeadLetter(invalid.to_string()),
                Ok(command) => match results.next() {
                    Some(Applied::Decided(result)) => {
                        Verdict::Done(Some(self.outgoing(delivery, &result)?))
                    }
                    Some(Applied::Contradiction) | None => Verdict::DeadLetter(format!(
                        "record {} was decided for another movement",
                        command.record_id
                    )),
                    Some(Applied::Locked) => Verdict::Locked,
                },
            });
        }
        Ok(verdicts)
    }
}

impl ApplyCommands {
    /// A result has the message id of its command. Within the duplicate window, a
    /// redelivered command therefore gives no second stored result, unless it shares
    /// another message. A redrive has a message id of its own, and gives another result.
    fn outgoing(
        &self,
        delivery: &Delivery,
        result: &TransactionResult,
    ) -> Result<Outgoing, Failure> {
        let payload = serde_json::to_vec(result).map_err(|error| Failure::Other(error.into()))?;
        Ok(Outgoing {
            subject: result.kind.result_subject().to_owned(),
            message_id: delivery.message_id.clone(),
            trace: delivery.trace,
            redrive_of: None,
            headers: HeaderMap::new(),
            payload: payload.into(),
            sharing: Some(Sharing { content: Bundle::Results, most: self.message_parts }),
        })
    }
}
