//! The account-service: accepts records, sends their commands once and again,
//! and settles them by results.

use crate::{
    broker::{Body, Message, MessageId, Publication},
    protocol::Protocol,
    rules::Rule,
    state::{Balance, End, Outcome, Phase, Record, RecordId, State, Transaction, Who},
};

impl Protocol {
    /// One commit: the PENDING record, which is the outbox. Its command is in
    /// memory now.
    pub(crate) fn accept(&self, state: &mut State, who: Who, id: RecordId) -> Option<()> {
        let record = state.record_mut(id).filter(|it| **it == Record::Unasked)?;
        *record = Record::Pending { redrives: 0 };
        let replica = state.replica_mut(who)?;
        if self.keep(Rule::RecordBeforeCommand) {
            replica.outgoing.push(command(id, MessageId::Record(id)));
        } else {
            replica.uncommitted.retain(|it| *it != id);
        }
        Some(())
    }

    pub(crate) fn send_unrecorded(&self, state: &mut State, who: Who, id: RecordId) -> Option<()> {
        state.replica_mut(who)?.uncommitted.push(id);
        state.store(Publication::Message(command(id, MessageId::Record(id))));
        Some(())
    }

    /// One commit, too: the number of the attempt. In time this is any later
    /// moment; the next turn of a record that stays PENDING always comes.
    pub(crate) fn claim(&self, state: &mut State, who: Who, id: RecordId) -> Option<()> {
        state.left.redrives = state.left.redrives.checked_sub(1)?;
        let Record::Pending { redrives } = state.record_mut(id)? else { return None };
        *redrives += 1;
        let attempt = *redrives;
        let message_id = if self.keep(Rule::RedriveMessageId) {
            MessageId::Attempt(id, attempt)
        } else {
            MessageId::Record(id)
        };
        state.replica_mut(who)?.outgoing.push(command(id, message_id));
        Some(())
    }

    /// Whether its PubAck comes or not: what does not get through is left to
    /// the redrive.
    pub(crate) fn send(
        &self,
        state: &mut State,
        who: Who,
        message: Message,
        held_up: bool,
    ) -> Option<()> {
        let outgoing = &mut state.replica_mut(who)?.outgoing;
        let at = outgoing.iter().position(|it| *it == message)?;
        outgoing.remove(at);
        self.hand_to_network(state, Publication::Message(message), held_up)
    }

    /// One commit: the record takes its outcome, the account its newer balance.
    pub(crate) fn settle(&self, state: &mut State, who: Who, told: Transaction) -> Option<()> {
        let place = state.hand(who)?.place;
        let (again, dead) = match state.record(told.record)? {
            Record::Pending { .. } => (false, false),
            Record::Settled(before) if before == told => (true, false),
            Record::Settled(_) if !self.keep(Rule::OnlyPending) => {
                state.changed = true;
                (false, false)
            }
            Record::Unasked | Record::Settled(_) => (true, true),
        };
        if !again {
            *state.record_mut(told.record)? = Record::Settled(told);
            self.project(state, told)?;
        }
        let hand = state.hand_mut(who)?;
        if dead && self.keep(Rule::DeadLetter) {
            hand.phase = Phase::Publish { what: Publication::DeadLetter(place), again: false };
            hand.end = End::Term;
        } else {
            hand.phase = Phase::LetGo { again };
        }
        Some(())
    }

    fn project(&self, state: &mut State, told: Transaction) -> Option<()> {
        let Outcome::Applied { balance_after, account_seq } = told.outcome else { return Some(()) };
        let account = self.scenario.movement(told.record)?.account;
        let projected = state.projected.get_mut(usize::from(account.0))?;
        if account_seq > projected.seq || !self.keep(Rule::OnlyNewerSeq) {
            *projected = Balance { amount: balance_after, seq: account_seq };
        }
        Some(())
    }
}

fn command(record: RecordId, id: MessageId) -> Message {
    Message { id, body: Body::Command(record) }
}
