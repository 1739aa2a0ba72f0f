//! The rows of the two databases. They survive every fault.

/// A record, numbered by its request's position in the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub u8);

/// An account, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u8);

/// The ledger's decision on a record. Models `contract::Outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The balance changed.
    Applied {
        /// The account's balance after this transaction.
        balance_after: i8,
        /// The transaction's number within its account: 1, 2, 3 …
        account_seq: u8,
    },
    /// The balance did not change.
    Refused,
}

/// A row of `transactions`. A result message carries the same fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transaction {
    /// The ledger's transaction number.
    pub id: u8,
    /// The decided record.
    pub record: RecordId,
    /// The decision.
    pub outcome: Outcome,
}

/// A row of `transaction_records`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Record {
    /// No row yet: the client has not sent its request.
    NotRequested,
    /// Accepted and not settled.
    Pending {
        /// Number of redrives so far.
        redrives: u8,
    },
    /// SUCCESS or FAILED, according to this result.
    Settled(Transaction),
}

impl Record {
    /// Whether the record is accepted and not settled.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self, Self::Pending { .. })
    }
}

/// A balance and the number of transactions in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Balance {
    /// In the currency's smallest unit.
    pub amount: i8,
    /// The `account_seq` of the last transaction. 0: no transaction.
    pub seq: u8,
}

impl Balance {
    /// Decides a deposit (positive) or a withdrawal (negative). A test compares this with
    /// `ledger::Account::apply`.
    #[must_use]
    pub const fn decide(self, amount: i8) -> Outcome {
        let balance_after = self.amount + amount;
        if balance_after < 0 {
            Outcome::Refused
        } else {
            Outcome::Applied { balance_after, account_seq: self.seq + 1 }
        }
    }
}

/// The transaction-service's database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// `accounts`, by account number.
    pub balances: Vec<Balance>,
    /// `transactions`, in the order of their numbers.
    pub transactions: Vec<Transaction>,
}

impl Ledger {
    /// The stored transaction of a record.
    #[must_use]
    pub fn find(&self, record: RecordId) -> Option<Transaction> {
        self.transactions.iter().find(|transaction| transaction.record == record).copied()
    }
}
