//! Forecasts a batch: its effect on each account if every record is new and no
//! command is refused. One statement can then apply the whole batch.

use std::collections::{BTreeMap, HashSet};

use contract::{AccountId, Command, Currency, Kind, MONEY_LIMIT};
use rust_decimal::Decimal;

use crate::Account;

/// The effect of a batch.
#[derive(Debug)]
pub struct Forecast {
    /// The effect on each account.
    pub accounts: BTreeMap<AccountId, BatchEffect>,
    /// The account's running total after each command, in the commands' order.
    pub totals: Vec<RunningTotal>,
}

/// The effect of a batch on one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEffect {
    /// The currency of all its commands.
    pub currency: Currency,
    /// The total after its last command.
    pub end: RunningTotal,
    /// The lowest running total, zero or below.
    pub lowest: Decimal,
    /// The highest running total, zero or above.
    pub highest: Decimal,
}

/// The total of an account's commands since the start of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunningTotal {
    /// Deposits minus withdrawals so far.
    pub net: Decimal,
    /// The number of commands so far.
    pub count: i64,
}

impl BatchEffect {
    const fn none(currency: Currency) -> Self {
        let end = RunningTotal { net: Decimal::ZERO, count: 0 };
        Self { currency, end, lowest: Decimal::ZERO, highest: Decimal::ZERO }
    }

    /// Whether the account allows all of its commands. None is refused if and only
    /// if the currency is the account's, and the balance stays within its limits at
    /// the lowest and the highest total. The SQL statement of the
    /// transaction-service's `store::fast_path` has the same condition.
    #[must_use]
    pub fn is_allowed_by(&self, account: &Account) -> bool {
        let balance = account.balance.as_decimal();
        account.currency == self.currency
            && balance + self.lowest >= Decimal::ZERO
            && balance + self.highest < MONEY_LIMIT
    }
}

/// Forecasts a batch. `None` if a record occurs twice, or an account occurs in
/// two currencies: at least one command is then a repetition or a refusal.
#[must_use]
pub fn forecast(commands: &[Command]) -> Option<Forecast> {
    let mut records = HashSet::with_capacity(commands.len());
    let mut accounts: BTreeMap<AccountId, BatchEffect> = BTreeMap::new();
    let mut totals = Vec::with_capacity(commands.len());
    for command in commands {
        let effect = accounts
            .entry(command.account_id)
            .or_insert_with(|| BatchEffect::none(command.currency));
        if effect.currency != command.currency || !records.insert(command.record_id) {
            return None;
        }
        match command.kind {
            Kind::Deposit => effect.end.net += command.amount.as_decimal(),
            Kind::Withdrawal => effect.end.net -= command.amount.as_decimal(),
        }
        effect.end.count += 1;
        effect.lowest = effect.lowest.min(effect.end.net);
        effect.highest = effect.highest.max(effect.end.net);
        totals.push(effect.end);
    }
    Some(Forecast { accounts, totals })
}
