//! The transaction-service: decides a record's outcome once, and tells it as
//! often as it is asked.

use crate::{
    broker::{Body, Message, MessageId, Publication},
    protocol::Protocol,
    rules::Rule,
    state::{Balance, End, Outcome, Phase, RecordId, State, Transaction, Who},
};

impl Protocol {
    /// One commit: the outcome and the balance, unless it was decided before.
    ///
    /// The careful way is one step: the lock on the account holds from reading
    /// to writing. The statement for what is new and possible looks for the
    /// record first, in a step of its own, and locks the account to move it;
    /// what turns out to be refused takes the careful way. Without the lock,
    /// the balance is of the first step, too, and the two UNIQUE constraints
    /// are what is left.
    pub(crate) fn decide(&self, state: &mut State, who: Who, record: RecordId) -> Option<()> {
        let hand = state.hand(who)?;
        let account = usize::from(self.scenario.movement(record)?.account.0);
        let now = *state.ledger.balances.get(account)?;
        let (balance, known) = match hand.phase {
            Phase::Read { balance: Some(then), known } => (then, known),
            Phase::Read { balance: None, known }
                if self.outcome(now, record)? != Outcome::Refused =>
            {
                (now, known)
            }
            // The careful way; also after the statement has moved nothing.
            _ => (now, self.known(state, record)),
        };
        let (stored, again) = match known {
            Some(stored) => (stored, true),
            None => {
                let outcome = self.outcome(balance, record)?;
                match self.collision(state, record, account, outcome) {
                    None => (self.insert(state, record, account, outcome)?, false),
                    Some(collision) => return self.begin_anew(state, who, collision),
                }
            }
        };
        let publishes = !again || self.keep(Rule::RepublishOnDuplicate);
        let what = Publication::Message(self.result(hand.place.message.id, stored));
        let hand = state.hand_mut(who)?;
        hand.phase = if publishes && hand.phase != Phase::Uncommitted {
            Phase::Publish { what, again }
        } else {
            Phase::LetGo { again }
        };
        Some(())
    }

    pub(crate) fn known(&self, state: &State, record: RecordId) -> Option<Transaction> {
        state.ledger.find(record).filter(|_| self.keep(Rule::RememberDecided))
    }

    fn outcome(&self, balance: Balance, record: RecordId) -> Option<Outcome> {
        let balance_after = balance.amount + self.scenario.movement(record)?.amount;
        Some(if balance_after < 0 {
            Outcome::Refused
        } else {
            Outcome::Applied { balance_after, account_seq: balance.seq + 1 }
        })
    }

    fn collision(
        &self,
        state: &State,
        record: RecordId,
        account: usize,
        outcome: Outcome,
    ) -> Option<Collision> {
        let unique_record = self.keep(Rule::UniqueRecordId) && self.keep(Rule::RememberDecided);
        if unique_record && state.ledger.find(record).is_some() {
            return Some(Collision::RecordId);
        }
        let Outcome::Applied { account_seq, .. } = outcome else { return None };
        let taken = state.ledger.balances.get(account)?.seq >= account_seq;
        (taken && self.keep(Rule::UniqueAccountSeq)).then_some(Collision::AccountSeq)
    }

    fn insert(
        &self,
        state: &mut State,
        record: RecordId,
        account: usize,
        outcome: Outcome,
    ) -> Option<Transaction> {
        let applied = matches!(outcome, Outcome::Applied { .. });
        let first = state.first.get_mut(usize::from(record.0))?;
        state.changed |= *first.get_or_insert(applied) != applied;
        let id = u8::try_from(state.ledger.transactions.len()).ok()? + 1;
        let row = Transaction { id, record, outcome };
        if let Outcome::Applied { balance_after, account_seq } = outcome {
            *state.ledger.balances.get_mut(account)? =
                Balance { amount: balance_after, seq: account_seq };
        }
        if applied || self.keep(Rule::PinnedRefusals) {
            state.ledger.transactions.push(row);
        }
        Some(row)
    }

    /// What the code does when another writer was faster: if it was the same
    /// record, again from the start; if it was another one of the account (an
    /// error of SQLSTATE class 23), the message is handed back, and at its last
    /// delivery a dead letter.
    fn begin_anew(&self, state: &mut State, who: Who, collision: Collision) -> Option<()> {
        let place = state.hand(who)?.place;
        let stored = state.stream(place.stream).stored.iter().find(|it| it.place == place);
        let last = stored.is_none_or(|it| it.deliveries >= self.scenario.max_deliver);
        let replica = state.replica_mut(who)?;
        match collision {
            Collision::RecordId => replica.hand.as_mut()?.phase = Phase::Taken,
            Collision::AccountSeq if last => {
                let hand = replica.hand.as_mut()?;
                hand.phase = Phase::Publish { what: Publication::DeadLetter(place), again: false };
                hand.end = End::Term;
            }
            Collision::AccountSeq => replica.hand = None,
        }
        Some(())
    }

    /// What is looked for or read before the account is locked.
    pub(crate) fn read(&self, state: &mut State, who: Who) -> Option<()> {
        let Body::Command(record) = state.hand(who)?.place.message.body else { return None };
        let account = self.scenario.movement(record)?.account;
        let balance = *state.ledger.balances.get(usize::from(account.0))?;
        let balance = (!self.keep(Rule::LockAccounts)).then_some(balance);
        let known = self.known(state, record);
        state.hand_mut(who)?.phase = Phase::Read { balance, known };
        Some(())
    }

    /// The result of what is going to be decided.
    pub(crate) fn publish_uncommitted(&self, state: &mut State, who: Who) -> Option<()> {
        let message = state.hand(who)?.place.message;
        let Body::Command(record) = message.body else { return None };
        let account = self.scenario.movement(record)?.account;
        let balance = *state.ledger.balances.get(usize::from(account.0))?;
        let id = u8::try_from(state.ledger.transactions.len()).ok()? + 1;
        let new = Transaction { id, record, outcome: self.outcome(balance, record)? };
        let told = self.known(state, record).unwrap_or(new);
        state.store(Publication::Message(self.result(message.id, told)));
        state.hand_mut(who)?.phase = Phase::Uncommitted;
        Some(())
    }

    fn result(&self, command: MessageId, told: Transaction) -> Message {
        let id =
            if self.keep(Rule::ResultMessageId) { command } else { MessageId::Record(told.record) };
        Message { id, body: Body::Result(told) }
    }
}

/// Which constraint a row ran into.
#[derive(Debug, Clone, Copy)]
enum Collision {
    RecordId,
    AccountSeq,
}
