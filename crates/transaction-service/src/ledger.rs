//! The decision: balances and commands in, outcomes out. Pure and total; no
//! I/O, no clock. Everything that could move money wrongly is here or in the
//! one transaction of `store`.

use std::collections::{BTreeMap, HashMap, HashSet};

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
    /// What was decided for a command's record.
    #[must_use]
    pub const fn of(command: &Command, outcome: Outcome) -> Self {
        Self {
            record_id: command.record_id,
            account_id: command.account_id,
            kind: command.kind,
            amount: command.amount,
            currency: command.currency,
            outcome,
        }
    }

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
        let entry = Entry::of(command, outcome);
        decided.insert(command.record_id, entry);
        decisions.entries.push(entry);
        decisions.answers.push(Answer::Outcome(command.record_id));
    }
    decisions
}

/// What a batch does if each of its commands is of a new record and none is
/// refused.
#[derive(Debug)]
pub struct Forecast {
    /// What it does to each of its accounts.
    pub accounts: BTreeMap<AccountId, Course>,
    /// Where each command leaves its account, in their order.
    pub steps: Vec<Step>,
}

/// What a batch's commands do to an account, one after the other. None of them
/// is refused exactly if the account is in this currency and its balance stays
/// within the limits at the lowest and at the highest point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// The currency of all of them.
    pub currency: Currency,
    /// Where they lead, from where the balance was before.
    pub end: Step,
    /// The lowest point on the way, zero or below.
    pub lowest: Decimal,
    /// The highest point on the way, zero or above.
    pub highest: Decimal,
}

/// A point on an account's course, counted from before the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// Deposits so far less withdrawals so far.
    pub net: Decimal,
    /// How many of them there were.
    pub count: i64,
}

/// What commands would do. Whether they do is for the accounts to say, and for
/// what is decided already. `None` if some of them certainly would do something
/// else: a record stands there twice, or an account in two currencies.
#[must_use]
pub fn forecast(commands: &[Command]) -> Option<Forecast> {
    let mut records = HashSet::with_capacity(commands.len());
    let mut accounts: BTreeMap<AccountId, Course> = BTreeMap::new();
    let mut steps = Vec::with_capacity(commands.len());
    for command in commands {
        let course = accounts.entry(command.account_id).or_insert(Course {
            currency: command.currency,
            end: Step::default(),
            lowest: Decimal::ZERO,
            highest: Decimal::ZERO,
        });
        if course.currency != command.currency || !records.insert(command.record_id) {
            return None;
        }
        match command.kind {
            Kind::Deposit => course.end.net += command.amount.as_decimal(),
            Kind::Withdrawal => course.end.net -= command.amount.as_decimal(),
        }
        course.end.count += 1;
        course.lowest = course.lowest.min(course.end.net);
        course.highest = course.highest.max(course.end.net);
        steps.push(course.end);
    }
    Some(Forecast { accounts, steps })
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

    /// Each of a new record, and an account's all in one currency, which is the
    /// account's only if its number says so.
    fn new_commands() -> impl Strategy<Value = Vec<Command>> {
        let as_new = |(record, it): (u128, Command)| {
            let id = it.account_id.as_uuid().as_u128();
            let amount = it.amount.as_decimal().try_into().unwrap();
            command(record, id, it.kind, amount, if id == 3 { "USD" } else { "KRW" })
        };
        vec(any_command(), 0..60).prop_map(move |all| (0..).zip(all).map(as_new).collect())
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
        fn what_is_forecast_is_what_is_decided_exactly_where_the_account_allows_its_course(
            commands in prop_oneof![1 => vec(any_command(), 0..9), 9 => new_commands()],
            held in vec(0..1500i64, 4), full in any::<bool>(),
        ) {
            let Some(forecast) = forecast(&commands) else {
                let mut records = HashSet::new();
                let mut currencies = HashMap::new();
                let odd = commands.iter().any(|it| {
                    !records.insert(it.record_id)
                        || *currencies.entry(it.account_id).or_insert(it.currency) != it.currency
                });
                prop_assert!(odd);
                return Ok(());
            };
            let limit = Decimal::from(1_000_000_000_000_000_000i64);
            let krw = Currency::parse("KRW").unwrap();
            // Few have much, or are close to the limit.
            let held = |id: &AccountId| {
                let held = Decimal::from(held[usize::from(id.as_uuid().as_bytes()[15]) % 4]);
                if full { limit - Decimal::ONE - held } else { held }
            };
            let account = |id: &AccountId| Account {
                currency: krw,
                balance: Balance::from_decimal(held(id), krw).unwrap(),
                seq: 7,
            };
            let before: BTreeMap<_, _> =
                forecast.accounts.keys().map(|id| (*id, account(id))).collect();
            let decisions = decide(before.clone(), HashMap::new(), &commands);
            for (id, course) in &forecast.accounts {
                let account = before[id];
                let allowed = account.currency == course.currency
                    && account.balance.as_decimal() + course.lowest >= Decimal::ZERO
                    && account.balance.as_decimal() + course.highest < limit;
                let decided = decisions.entries.iter().zip(&forecast.steps);
                let mut decided = decided.filter(|(entry, _)| entry.account_id == *id);
                prop_assert_eq!(allowed, decided.all(|(entry, step)| {
                    let balance = account.balance.as_decimal() + step.net;
                    matches!(entry.outcome, Outcome::Applied { balance_after, account_seq }
                        if balance_after.as_decimal() == balance && account_seq == 7 + step.count)
                }));
            }
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
