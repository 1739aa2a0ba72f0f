//! The transaction-service: decides a record once, and answers every further
//! command with the stored outcome.

use crate::money::{
    databases::{Balance, Outcome, RecordId, Transaction},
    protocol::Protocol,
    replica::{Phase, ReplicaId},
    rules::Rule,
    state::State,
    streams::{Body, Message, MessageId, Part, Publication},
};

impl Protocol {
    /// Commits the outcome and the balance, unless the record is decided.
    ///
    /// The slow path is one step: it locks the account before it reads, and
    /// keeps the lock until it has written. The fast path is two steps: its
    /// statement looks for the record first, and then locks and updates the
    /// account. Refusals take the slow path. Without the lock, the balance is
    /// also read in the first step, and only the two UNIQUE constraints protect
    /// the ledger.
    pub(crate) fn decide(
        &self,
        state: &mut State,
        replica: ReplicaId,
        index: usize,
        record: RecordId,
    ) -> Option<()> {
        let (command, phase) = state.part(replica, index)?;
        let account = usize::from(self.scenario.request(record)?.account.0);
        let current = *state.ledger.balances.get(account)?;
        let (balance, decided) = match phase {
            Phase::Read { balance: Some(earlier), decided } => (earlier, decided),
            Phase::Read { balance: None, decided }
                if self.outcome(current, record)? != Outcome::Refused =>
            {
                (current, decided)
            }
            // The slow path, also after a fast path that changed nothing.
            _ => (current, self.decided(state, record)),
        };
        let (transaction, duplicate) = match decided {
            Some(stored) => (stored, true),
            None => {
                let outcome = self.outcome(balance, record)?;
                match self.collision(state, record, account, outcome) {
                    None => (self.insert(state, record, account, outcome)?, false),
                    Some(collision) => {
                        return self.resolve_collision(state, replica, index, collision);
                    }
                }
            }
        };
        let publishes = !duplicate || self.keeps(Rule::RepublishOnDuplicate);
        let result = self.result(command.id, transaction);
        *state.phase_mut(replica, index)? = if publishes && phase != Phase::PublishedUncommitted {
            Phase::PublishResult { result, duplicate }
        } else {
            Phase::Done { duplicate }
        };
        Some(())
    }

    /// The record's stored transaction, if the ledger looks for it.
    pub(crate) fn decided(&self, state: &State, record: RecordId) -> Option<Transaction> {
        state.ledger.find(record).filter(|_| self.keeps(Rule::RememberDecided))
    }

    fn outcome(&self, balance: Balance, record: RecordId) -> Option<Outcome> {
        Some(balance.decide(self.scenario.request(record)?.amount))
    }

    fn collision(
        &self,
        state: &State,
        record: RecordId,
        account: usize,
        outcome: Outcome,
    ) -> Option<Collision> {
        let unique_record = self.keeps(Rule::UniqueRecordId) && self.keeps(Rule::RememberDecided);
        if unique_record && state.ledger.find(record).is_some() {
            return Some(Collision::RecordId);
        }
        let Outcome::Applied { account_seq, .. } = outcome else { return None };
        let taken = state.ledger.balances.get(account)?.seq >= account_seq;
        (taken && self.keeps(Rule::UniqueAccountSeq)).then_some(Collision::AccountSeq)
    }

    fn insert(
        &self,
        state: &mut State,
        record: RecordId,
        account: usize,
        outcome: Outcome,
    ) -> Option<Transaction> {
        let applied = matches!(outcome, Outcome::Applied { .. });
        let first_decision = state.first_decisions.get_mut(usize::from(record.0))?;
        state.decision_changed |= *first_decision.get_or_insert(applied) != applied;
        let id = u8::try_from(state.ledger.transactions.len()).ok()? + 1;
        let row = Transaction { id, record, outcome };
        if let Outcome::Applied { balance_after, account_seq } = outcome {
            *state.ledger.balances.get_mut(account)? =
                Balance { amount: balance_after, seq: account_seq };
        }
        if applied || self.keeps(Rule::PinnedRefusals) {
            state.ledger.transactions.push(row);
        }
        Some(row)
    }

    /// Another writer was faster. If it decided the same record, the worker
    /// starts again. If it used the account's next number (SQLSTATE class 23),
    /// the part has failed.
    fn resolve_collision(
        &self,
        state: &mut State,
        replica: ReplicaId,
        index: usize,
        collision: Collision,
    ) -> Option<()> {
        match collision {
            Collision::RecordId => *state.phase_mut(replica, index)? = Phase::Delivered,
            Collision::AccountSeq => self.fail(state, replica, index)?,
        }
        Some(())
    }

    /// Reads the decision before the account is locked and, without the lock,
    /// also the balance.
    pub(crate) fn read(&self, state: &mut State, replica: ReplicaId, index: usize) -> Option<()> {
        let (command, _) = state.part(replica, index)?;
        let Body::Command(record) = command.body else { return None };
        let account = self.scenario.request(record)?.account;
        let balance = *state.ledger.balances.get(usize::from(account.0))?;
        let balance = (!self.keeps(Rule::LockAccounts)).then_some(balance);
        let decided = self.decided(state, record);
        *state.phase_mut(replica, index)? = Phase::Read { balance, decided };
        Some(())
    }

    /// Publishes the result of a decision before its commit.
    pub(crate) fn publish_uncommitted(
        &self,
        state: &mut State,
        replica: ReplicaId,
        index: usize,
    ) -> Option<()> {
        let (command, _) = state.part(replica, index)?;
        let Body::Command(record) = command.body else { return None };
        let account = self.scenario.request(record)?.account;
        let balance = *state.ledger.balances.get(usize::from(account.0))?;
        let id = u8::try_from(state.ledger.transactions.len()).ok()? + 1;
        let new = Transaction { id, record, outcome: self.outcome(balance, record)? };
        let transaction = self.decided(state, record).unwrap_or(new);
        let result = self.result(command.id, transaction);
        self.store(state, Publication::Message(Message::of([result])));
        *state.phase_mut(replica, index)? = Phase::PublishedUncommitted;
        Some(())
    }

    fn result(&self, command: MessageId, transaction: Transaction) -> Part {
        let id = if self.keeps(Rule::ResultMessageId) {
            command
        } else {
            MessageId::Record(transaction.record)
        };
        Part { id, body: Body::Result(transaction) }
    }
}

/// The UNIQUE constraint that a row violates.
#[derive(Debug, Clone, Copy)]
enum Collision {
    RecordId,
    AccountSeq,
}
