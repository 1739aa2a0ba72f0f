//! The requests of the clients, and the faults meanwhile. Every field is a
//! bound, and everything within the bounds is explored.

use crate::money::databases::{AccountId, RecordId};

/// A request to move money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRequest {
    /// The account of the balance.
    pub account: AccountId,
    /// Positive: a deposit. Negative: a withdrawal.
    pub amount: i8,
}

/// A request on account 0: a deposit, or a withdrawal if `amount` is negative.
#[must_use]
pub const fn request(amount: i8) -> ClientRequest {
    ClientRequest { account: AccountId(0), amount }
}

/// A readable command that can't be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// It crashes its worker at every delivery.
    Kills,
    /// It fails by its data at every delivery.
    Fails,
}

/// The number of times each fault may happen, and the number of unneeded
/// redrives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Crashes of a replica. It starts again at once.
    pub crashes: u8,
    /// Losses of data by the broker, of any size.
    pub wipes: u8,
    /// Publications without a PubAck in time. They are lost or arrive late,
    /// possibly after the process has published the same message again.
    pub delayed_publications: u8,
    /// Ack waits ending while a worker is still processing the message.
    pub slow_workers: u8,
    /// Ends of a duplicate window.
    pub expired_windows: u8,
    /// Lost max-deliveries advisories.
    pub lost_advisories: u8,
    /// Redrives of a record.
    pub redrives: u8,
    /// Changes of the broker's limit. From then on, it refuses messages with several parts.
    pub lowered_limits: u8,
    /// Attempts to commit a part while another transaction holds its account.
    pub held_rows: u8,
    /// Results that their stream discards, to make room for new ones.
    pub discards: u8,
}

/// A bounded world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// The clients' requests, in this order.
    pub requests: Vec<ClientRequest>,
    /// The possible faults.
    pub faults: Faults,
    /// Replicas of the account-service.
    pub account_services: u8,
    /// Replicas of the transaction-service.
    pub transaction_services: u8,
    /// Maximum deliveries of a message.
    pub max_deliver: u8,
    /// Maximum parts of a message, up to [`MAX_PARTS`](crate::money::parts::MAX_PARTS).
    pub max_parts: u32,
    /// Makes the command of the first request poison.
    pub poison: Option<Poison>,
    /// Whether a stray, unreadable command appears. If `max_parts` is more than 1,
    /// stray messages are bundles with one stray part.
    pub unreadable: bool,
    /// Whether a stray result appears and contradicts a settled record.
    pub contradicting: bool,
    /// Whether the ack of a lost message may remove a new message with the same
    /// sequence number.
    pub stale_acks: bool,
    /// The redrive pauses while `TRANSACTION` holds more messages than this.
    /// `None`: it never pauses.
    pub backlog: Option<usize>,
}

impl Scenario {
    /// These requests, two replicas of each service, and no faults.
    #[must_use]
    pub fn of(requests: &[ClientRequest]) -> Self {
        Self {
            requests: requests.to_vec(),
            faults: Faults::default(),
            account_services: 2,
            transaction_services: 2,
            max_deliver: 3,
            max_parts: 1,
            poison: None,
            unreadable: false,
            contradicting: false,
            stale_acks: false,
            backlog: None,
        }
    }

    /// The same scenario with these faults.
    #[must_use]
    pub fn with(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The request behind a record.
    #[must_use]
    pub fn request(&self, record: RecordId) -> Option<ClientRequest> {
        self.requests.get(usize::from(record.0)).copied()
    }

    /// The effect of the record's command on its worker. `None`: it is no poison.
    #[must_use]
    pub fn poison(&self, record: RecordId) -> Option<Poison> {
        self.poison.filter(|_| record == RecordId(0))
    }

    /// The records of one account, or of all accounts with `None`.
    pub fn records(&self, account: Option<AccountId>) -> impl Iterator<Item = RecordId> {
        (0..)
            .zip(&self.requests)
            .filter(move |(_, request)| account.is_none_or(|account| account == request.account))
            .map(|(index, _)| RecordId(index))
    }

    /// The accounts, from number 0 to the highest in the requests.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        let last = self.requests.iter().map(|request| request.account.0).max();
        (0..=last.unwrap_or_default()).map(AccountId)
    }
}
