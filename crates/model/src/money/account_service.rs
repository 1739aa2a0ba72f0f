//! The account-service: accepts records, publishes and redrives their commands,
//! and settles them by the results.

use crate::money::{
    databases::{Balance, Outcome, Record, RecordId, Transaction},
    protocol::Protocol,
    replica::{Phase, ReplicaId},
    rules::Rule,
    state::State,
    streams::{Body, Message, MessageId, Part, Publication},
};

impl Protocol {
    /// Commits the PENDING record, which is also the outbox. The command is
    /// now in memory.
    pub(crate) fn accept(
        &self,
        state: &mut State,
        replica: ReplicaId,
        record: RecordId,
    ) -> Option<()> {
        let row = state.record_mut(record).filter(|row| **row == Record::NotRequested)?;
        *row = Record::Pending { redrives: 0 };
        let replica = state.replica_mut(replica)?;
        if self.keeps(Rule::RecordBeforeCommand) {
            replica.outgoing.push(command(record, MessageId::Record(record)));
        } else {
            replica.uncommitted.retain(|id| *id != record);
        }
        Some(())
    }

    pub(crate) fn send_unrecorded(
        &self,
        state: &mut State,
        replica: ReplicaId,
        record: RecordId,
    ) -> Option<()> {
        state.replica_mut(replica)?.uncommitted.push(record);
        let command = command(record, MessageId::Record(record));
        self.store(state, Publication::Message(Message::of([command])));
        Some(())
    }

    /// Commits the number of the next attempt. This may happen at any time
    /// after the acceptance. Every PENDING record gets a next attempt.
    pub(crate) fn claim(
        &self,
        state: &mut State,
        replica: ReplicaId,
        record: RecordId,
    ) -> Option<()> {
        state.remaining.redrives = state.remaining.redrives.checked_sub(1)?;
        let Record::Pending { redrives } = state.record_mut(record)? else { return None };
        *redrives += 1;
        let attempt = *redrives;
        let message_id = if self.keeps(Rule::RedriveMessageId) {
            MessageId::Attempt(record, attempt)
        } else {
            MessageId::Record(record)
        };
        state.replica_mut(replica)?.outgoing.push(command(record, message_id));
        Some(())
    }

    /// Publishes commands once, with or without a PubAck: lost commands are left to
    /// the redrive.
    pub(crate) fn send(
        &self,
        state: &mut State,
        replica: ReplicaId,
        message: Message,
        delayed: bool,
    ) -> Option<()> {
        let outgoing = &mut state.replica_mut(replica)?.outgoing;
        for part in message.parts.iter() {
            let index = outgoing.iter().position(|other| *other == part)?;
            outgoing.remove(index);
        }
        self.send_to_broker(state, Publication::Message(message), delayed)
    }

    /// Commits the record's outcome and the account's newer balance.
    pub(crate) fn settle(
        &self,
        state: &mut State,
        replica: ReplicaId,
        index: usize,
        result: Transaction,
    ) -> Option<()> {
        let (duplicate, contradicts) = match state.record(result.record)? {
            Record::Pending { .. } => (false, false),
            Record::Settled(earlier) if earlier == result => (true, false),
            Record::Settled(_) if !self.keeps(Rule::OnlyPending) => {
                state.decision_changed = true;
                (false, false)
            }
            Record::NotRequested | Record::Settled(_) => (true, true),
        };
        if !duplicate {
            *state.record_mut(result.record)? = Record::Settled(result);
            self.project(state, result)?;
        }
        if contradicts {
            return self.reject(state, replica, index);
        }
        *state.phase_mut(replica, index)? = Phase::Done { duplicate };
        Some(())
    }

    fn project(&self, state: &mut State, result: Transaction) -> Option<()> {
        let Outcome::Applied { balance_after, account_seq } = result.outcome else {
            return Some(());
        };
        let account = self.scenario.request(result.record)?.account;
        let projected = state.projected.get_mut(usize::from(account.0))?;
        if account_seq > projected.seq || !self.keeps(Rule::OnlyNewerSeq) {
            *projected = Balance { amount: balance_after, seq: account_seq };
        }
        Some(())
    }
}

fn command(record: RecordId, id: MessageId) -> Part {
    Part { id, body: Body::Command(record) }
}
