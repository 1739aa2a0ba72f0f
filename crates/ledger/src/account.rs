//! An account. [`Account::apply`] is the only function that moves its balance.

use contract::{Balance, Command, Currency, Kind, Outcome, Reason};

/// An account as the ledger holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The currency of its first command.
    pub currency: Currency,
    /// The balance.
    pub balance: Balance,
    /// The number of transactions applied so far.
    pub seq: i64,
}

impl Account {
    /// An account before its first command.
    #[must_use]
    pub fn empty(currency: Currency) -> Self {
        Self { currency, balance: Balance::zero(currency), seq: 0 }
    }

    /// Applies a command whose record is not decided yet, or refuses it. The
    /// reasons are checked in the order of [`Reason`].
    pub fn apply(&mut self, command: &Command) -> Outcome {
        if self.currency != command.currency {
            return Outcome::Refused(Reason::CurrencyMismatch);
        }
        let (balance, reason) = match command.kind {
            Kind::Deposit => (self.balance.plus(command.amount), Reason::BalanceLimitExceeded),
            Kind::Withdrawal => (self.balance.minus(command.amount), Reason::InsufficientFunds),
        };
        let Some(balance_after) = balance else { return Outcome::Refused(reason) };
        self.balance = balance_after;
        self.seq += 1;
        Outcome::Applied { balance_after, account_seq: self.seq }
    }
}
