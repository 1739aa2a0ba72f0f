//! The decision: balances and commands in, outcomes out. Pure and total; no
//! I/O, no clock. Everything that could move money wrongly is here or in the
//! one transaction of `store`.

use std::collections::{BTreeMap, HashMap};

use contract::{AccountId, Amount, Balance, Command, Currency, Kind, Outcome, Reason, RecordId};
use rust_decimal::Decimal;

/// An account as the ledger holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The currency that its first command had.
    pub currency: Currency,
    /// What it holds.
    pub balance: Balance,
    /// How many transactions were applied to it.
    pub seq: i64,
}

/// The decided outcome of one record, as the ledger keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The record.
    pub record_id: RecordId,
    /// The account of its command.
    pub account_id: AccountId,
    /// The direction of its command.
    pub kind: Kind,
    /// The amount of its command.
    pub amount: Amount,
    /// The currency of its command.
    pub currency: Currency,
    /// What was decided.
    pub outcome: Outcome,
}

impl Entry {
    fn is_of(&self, command: &Command) -> bool {
        self.account_id == command.account_id
            && self.kind == command.kind
            && self.amount == command.amount
            && self.currency == command.currency
    }
}

/// What a command gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The outcome of its record: among the new entries, or stored before.
    Outcome(RecordId),
    /// Its record was decided for another movement: the command contradicts
    /// what stands, and nothing is done.
    Contradiction,
}

/// What a batch of commands comes to.
#[derive(Debug, Default)]
pub struct Decisions {
    /// One answer a command, in their order.
    pub answers: Vec<Answer>,
    /// The outcomes that are new, in the order in which they were decided.
    pub entries: Vec<Entry>,
    /// The accounts whose balance moved, as they are now.
    pub moved: BTreeMap<AccountId, Account>,
}

/// Decides commands one after the other. `accounts` must hold every account
/// that a command names (a command whose account is missing is decided on an
/// empty account of its currency), `decided` every outcome stored so far for
/// their records.
#[must_use]
pub fn decide(
    mut accounts: BTreeMap<AccountId, Account>,
    mut decided: HashMap<RecordId, Entry>,
    commands: &[Command],
) -> Decisions {
    let mut decisions = Decisions::default();
    for command in commands {
        // Pinned: what was decided once is the answer for ever, be it a refusal.
        if let Some(entry) = decided.get(&command.record_id) {
            decisions.answers.push(if entry.is_of(command) {
                Answer::Outcome(command.record_id)
            } else {
                Answer::Contradiction
            });
            continue;
        }
        let account = accounts.entry(command.account_id).or_insert_with(|| Account {
            currency: command.currency,
            balance: Balance::zero(command.currency),
            seq: 0,
        });
        let outcome = apply(account, command);
        if matches!(outcome, Outcome::Applied { .. }) {
            decisions.moved.insert(command.account_id, *account);
        }
        let entry = Entry {
            record_id: command.record_id,
            account_id: command.account_id,
            kind: command.kind,
            amount: command.amount,
            currency: command.currency,
            outcome,
        };
        decided.insert(command.record_id, entry);
        decisions.entries.push(entry);
        decisions.answers.push(Answer::Outcome(command.record_id));
    }
    decisions
}

/// What a batch does to an account if each of its commands is of a new record
/// and none is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// The currency of its first command.
    pub currency: Currency,
    /// The sum of its deposits less that of its withdrawals.
    pub net: Decimal,
    /// How many they are.
    pub count: i64,
}

/// What commands would do. Whether they do is for [`decide`] to say.
#[must_use]
pub fn forecast(commands: &[Command]) -> BTreeMap<AccountId, Forecast> {
    let mut forecasts = BTreeMap::new();
    for command in commands {
        let forecast = forecasts.entry(command.account_id).or_insert(Forecast {
            currency: command.currency,
            net: Decimal::ZERO,
            count: 0,
        });
        match command.kind {
            Kind::Deposit => forecast.net += command.amount.as_decimal(),
            Kind::Withdrawal => forecast.net -= command.amount.as_decimal(),
        }
        forecast.count += 1;
    }
    forecasts
}

/// The accounts as they were before they were moved by their forecasts; `None`
/// if one is missing or can't have been so.
#[must_use]
pub fn before(
    advanced: &BTreeMap<AccountId, Account>,
    forecasts: &BTreeMap<AccountId, Forecast>,
) -> Option<BTreeMap<AccountId, Account>> {
    let before = |(id, forecast): (&AccountId, &Forecast)| {
        let Account { currency, balance, seq } = *advanced.get(id)?;
        let balance = Balance::from_decimal(balance.as_decimal() - forecast.net, currency)?;
        Some((*id, Account { currency, balance, seq: seq - forecast.count }))
    };
    forecasts.iter().map(before).collect()
}

/// Moves the money, or says why not, in the order of [`Reason`].
fn apply(account: &mut Account, command: &Command) -> Outcome {
    if account.currency != command.currency {
        return Outcome::Refused(Reason::CurrencyMismatch);
    }
    let moved = match command.kind {
        Kind::Deposit => account.balance.plus(command.amount).ok_or(Reason::BalanceLimitExceeded),
        Kind::Withdrawal => account.balance.minus(command.amount).ok_or(Reason::InsufficientFunds),
    };
    match moved {
        Ok(balance_after) => {
            account.balance = balance_after;
            account.seq += 1;
            Outcome::Applied { balance_after, account_seq: account.seq }
        }
        Err(reason) => Outcome::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn command(record: u128, account: u128, kind: Kind, amount: i64, code: &str) -> Command {
        let currency = Currency::parse(code).unwrap();
        Command {
            record_id: RecordId::from_uuid(Uuid::from_u128(record)),
            account_id: AccountId::from_uuid(Uuid::from_u128(account)),
            user_id: "teller".to_owned().try_into().unwrap(),
            kind,
            amount: Amount::from_decimal(Decimal::from(amount), currency).unwrap(),
            currency,
            requested_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn outcomes(commands: &[Command]) -> Vec<Outcome> {
        let decisions = decide(BTreeMap::new(), HashMap::new(), commands);
        decisions.entries.iter().map(|entry| entry.outcome).collect()
    }

    #[test]
    fn a_withdrawal_beyond_the_balance_is_refused_and_stays_refused() {
        let withdrawal = command(2, 1, Kind::Withdrawal, 101, "KRW");
        let commands = [
            command(1, 1, Kind::Deposit, 100, "KRW"),
            withdrawal.clone(),
            command(3, 1, Kind::Deposit, 100, "KRW"),
            withdrawal,
        ];
        let decisions = decide(BTreeMap::new(), HashMap::new(), &commands);
        assert_eq!(decisions.entries.len(), 3);
        assert_eq!(decisions.entries[1].outcome, Outcome::Refused(Reason::InsufficientFunds));
        assert_eq!(decisions.answers[1], decisions.answers[3]);
    }

    #[test]
    fn refusals_come_in_the_order_of_the_reasons() {
        let refused = outcomes(&[
            command(1, 1, Kind::Deposit, 999_999_999_999_999_999, "KRW"),
            command(2, 1, Kind::Deposit, 1, "KRW"),
            command(3, 1, Kind::Deposit, 1, "USD"),
            command(4, 1, Kind::Withdrawal, 999_999_999_999_999_999, "USD"),
        ]);
        assert_eq!(refused[1], Outcome::Refused(Reason::BalanceLimitExceeded));
        assert_eq!(refused[2], Outcome::Refused(Reason::CurrencyMismatch));
        assert_eq!(refused[3], Outcome::Refused(Reason::CurrencyMismatch));
    }

    #[test]
    fn a_record_can_not_stand_for_two_movements() {
        let first = command(1, 1, Kind::Deposit, 100, "KRW");
        for other in [
            command(1, 2, Kind::Deposit, 100, "KRW"),
            command(1, 1, Kind::Withdrawal, 100, "KRW"),
            command(1, 1, Kind::Deposit, 101, "KRW"),
            command(1, 1, Kind::Deposit, 100, "JPY"),
        ] {
            let decisions = decide(BTreeMap::new(), HashMap::new(), &[first.clone(), other]);
            assert_eq!(decisions.answers[1], Answer::Contradiction);
            assert_eq!(decisions.entries.len(), 1);
        }
    }

    /// Few records and accounts, so that they repeat and collide.
    fn any_command() -> impl Strategy<Value = Command> {
        let kind = prop_oneof![Just(Kind::Deposit), Just(Kind::Withdrawal)];
        (1..60u128, 1..4u128, kind, 1..200i64, prop_oneof![9 => Just("KRW"), 1 => Just("USD")])
            .prop_map(|(record, account, kind, amount, code)| {
                command(record, account, kind, amount, code)
            })
    }

    proptest! {
        #[test]
        fn balances_are_the_sum_of_what_was_applied(commands in vec(any_command(), 0..200)) {
            let decisions = decide(BTreeMap::new(), HashMap::new(), &commands);
            let mut balances: HashMap<AccountId, (Decimal, i64)> = HashMap::new();
            for entry in &decisions.entries {
                if let Outcome::Applied { balance_after, account_seq } = entry.outcome {
                    let (balance, seq) = balances.entry(entry.account_id).or_default();
                    match entry.kind {
                        Kind::Deposit => *balance += entry.amount.as_decimal(),
                        Kind::Withdrawal => *balance -= entry.amount.as_decimal(),
                    }
                    *seq += 1;
                    prop_assert_eq!(balance_after.as_decimal(), *balance);
                    prop_assert_eq!(account_seq, *seq);
                    prop_assert!(*balance >= Decimal::ZERO);
                }
            }
            for (id, account) in &decisions.moved {
                prop_assert_eq!(balances[id], (account.balance.as_decimal(), account.seq));
            }
            prop_assert_eq!(decisions.moved.len(), balances.len());
        }

        #[test]
        fn each_record_is_decided_once_however_its_commands_are_cut_into_batches(
            records in vec(1..60u128, 0..120), cut in 0..120usize,
        ) {
            // A record's number says all of it: its commands repeat, and never contradict.
            let of = |record: &u128| {
                let kind = if record.is_multiple_of(3) { Kind::Withdrawal } else { Kind::Deposit };
                command(*record, record % 4, kind, i64::try_from(record * 37 % 50 + 1).unwrap(), "KRW")
            };
            let commands: Vec<_> = records.iter().map(of).collect();
            let whole = decide(BTreeMap::new(), HashMap::new(), &commands);
            let (first, second) = commands.split_at(cut.min(commands.len()));
            let one = decide(BTreeMap::new(), HashMap::new(), first);
            // An account that was only refused is empty, in the store as if it were missing.
            let accounts = one.moved.clone();
            let decided = one.entries.iter().map(|it| (it.record_id, *it)).collect();
            let two = decide(accounts, decided, second);
            let parts: Vec<_> = one.entries.iter().chain(&two.entries).cloned().collect();
            prop_assert_eq!(parts, whole.entries);
        }
    }
}
