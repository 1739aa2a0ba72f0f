//! What is asked for, and how much may go wrong meanwhile. Each of these is a
//! bound: within them, everything is explored.

use crate::state::{AccountId, RecordId};

/// One request of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// Whose balance moves.
    pub account: AccountId,
    /// By how much: less than zero is a withdrawal.
    pub amount: i8,
}

/// Shorthand for a movement on the first account; less than zero withdraws.
#[must_use]
pub const fn movement(amount: i8) -> Movement {
    Movement { account: AccountId(0), amount }
}

/// How often each fault may happen, and how often the redrive may come to a
/// record that does not need it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Replicas that crash and start again.
    pub crashes: u8,
    /// Losses of the broker, of any size.
    pub wipes: u8,
    /// Publications whose PubAck does not come in time: they are lost, or
    /// arrive late, perhaps after the same was published again.
    pub held_up: u8,
    /// Ack waits that end while a worker still works.
    pub slow: u8,
    /// Duplicate windows that end.
    pub windows: u8,
    /// Advisories about used-up messages that get lost.
    pub advisories: u8,
    /// Turns of the redrive.
    pub redrives: u8,
}

/// A bounded world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What clients ask for, in this order.
    pub movements: Vec<Movement>,
    /// What may go wrong.
    pub faults: Faults,
    /// Replicas of the account-service.
    pub account_services: u8,
    /// Replicas of the transaction-service.
    pub transaction_services: u8,
    /// How often a message is delivered at most.
    pub max_deliver: u8,
    /// Whether a command that can't be read comes from a wrong hand.
    pub unreadable: bool,
    /// Whether a result that contradicts a settled record does.
    pub contradicting: bool,
    /// Whether an ack for a message that a wipe took may hit another one, which
    /// has its sequence number now.
    pub stale_acks: bool,
    /// While more messages than this are in `TRANSACTION`, the redrive waits.
    pub backlog: Option<usize>,
}

impl Scenario {
    /// These movements, two replicas of each service, and no faults.
    #[must_use]
    pub fn of(movements: &[Movement]) -> Self {
        Self {
            movements: movements.to_vec(),
            faults: Faults::default(),
            account_services: 2,
            transaction_services: 2,
            max_deliver: 3,
            unreadable: false,
            contradicting: false,
            stale_acks: false,
            backlog: None,
        }
    }

    /// The same with these faults.
    #[must_use]
    pub fn with(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The movement of a record.
    #[must_use]
    pub fn movement(&self, record: RecordId) -> Option<Movement> {
        self.movements.get(usize::from(record.0)).copied()
    }

    /// The records of an account, or of all.
    pub fn records(&self, account: Option<AccountId>) -> impl Iterator<Item = RecordId> {
        let of = move |movement: &Movement| account.is_none_or(|it| it == movement.account);
        (0..)
            .zip(&self.movements)
            .filter(move |(_, movement)| of(movement))
            .map(|(at, _)| RecordId(at))
    }

    /// The accounts, from the first to the last that is named.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        let last = self.movements.iter().map(|movement| movement.account.0).max();
        (0..=last.unwrap_or_default()).map(AccountId)
    }
}
