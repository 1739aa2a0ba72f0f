//! Decides commands: each record is decided once, and its outcome never
//! changes.

use std::collections::{BTreeMap, HashMap};

use contract::{AccountId, Amount, Command, Currency, Kind, Movement, Outcome, RecordId};

use crate::Account;

/// The decided outcome of one record, as the ledger stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The record.
    pub record_id: RecordId,
    /// The account of its command.
    pub account_id: AccountId,
    /// The type of its command.
    pub kind: Kind,
    /// The amount of its command.
    pub amount: Amount,
    /// The currency of its command.
    pub currency: Currency,
    /// The decision.
    pub outcome: Outcome,
}

impl Entry {
    /// The entry of a command's record.
    #[must_use]
    pub const fn new(command: &Command, outcome: Outcome) -> Self {
        Self {
            record_id: command.record_id,
            account_id: command.account_id,
            kind: command.kind,
            amount: command.amount,
            currency: command.currency,
            outcome,
        }
    }

    /// The movement that was decided.
    #[must_use]
    pub const fn movement(&self) -> Movement {
        let Self { account_id, kind, amount, currency, .. } = *self;
        Movement { account_id, kind, amount, currency }
    }
}

/// The decision about one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The record has an outcome: a new entry, or an entry stored before.
    Outcome(RecordId),
    /// The record was decided for another movement. Nothing changes.
    Contradiction,
}

/// The decisions about a batch of commands.
#[derive(Debug, Default)]
pub struct Decisions {
    /// One per command, in their order.
    pub decisions: Vec<Decision>,
    /// The new entries, in the order of their decision.
    pub entries: Vec<Entry>,
    /// The accounts whose balance moved, in their new state.
    pub moved: BTreeMap<AccountId, Account>,
}

/// Decides commands one after the other.
///
/// `accounts` must hold every account that a command names. A missing account
/// counts as empty, in the command's currency. `decided` must hold every stored
/// outcome of the commands' records.
#[must_use]
pub fn decide(
    mut accounts: BTreeMap<AccountId, Account>,
    mut decided: HashMap<RecordId, Entry>,
    commands: &[Command],
) -> Decisions {
    let mut batch = Decisions::default();
    for command in commands {
        // A decided record keeps its outcome. This includes refusals.
        if let Some(entry) = decided.get(&command.record_id) {
            batch.decisions.push(if entry.movement() == command.movement() {
                Decision::Outcome(command.record_id)
            } else {
                Decision::Contradiction
            });
            continue;
        }
        let account =
            accounts.entry(command.account_id).or_insert_with(|| Account::empty(command.currency));
        let outcome = account.apply(command);
        if matches!(outcome, Outcome::Applied { .. }) {
            batch.moved.insert(command.account_id, *account);
        }
        let entry = Entry::new(command, outcome);
        decided.insert(command.record_id, entry);
        batch.entries.push(entry);
        batch.decisions.push(Decision::Outcome(command.record_id));
    }
    batch
}
