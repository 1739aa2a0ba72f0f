//! Properties of the money rules.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashMap, HashSet};

use contract::{
    AccountId, Amount, Balance, Command, Currency, Kind, MONEY_LIMIT, Outcome, Reason, RecordId,
};
use ledger::{Account, Decision, decide, forecast};
use proptest::{collection::vec, prelude::*};
use rust_decimal::Decimal;
use time::OffsetDateTime;
use uuid::Uuid;

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
    let batch = decide(BTreeMap::new(), HashMap::new(), commands);
    batch.entries.iter().map(|entry| entry.outcome).collect()
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
    let batch = decide(BTreeMap::new(), HashMap::new(), &commands);
    assert_eq!(batch.entries.len(), 3);
    assert_eq!(batch.entries[1].outcome, Outcome::Refused(Reason::InsufficientFunds));
    assert_eq!(batch.decisions[1], batch.decisions[3]);
}

#[test]
fn reasons_are_checked_in_their_order() {
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
fn a_record_is_decided_for_one_movement() {
    let first = command(1, 1, Kind::Deposit, 100, "KRW");
    for other in [
        command(1, 2, Kind::Deposit, 100, "KRW"),
        command(1, 1, Kind::Withdrawal, 100, "KRW"),
        command(1, 1, Kind::Deposit, 101, "KRW"),
        command(1, 1, Kind::Deposit, 100, "JPY"),
    ] {
        let batch = decide(BTreeMap::new(), HashMap::new(), &[first.clone(), other]);
        assert_eq!(batch.decisions[1], Decision::Contradiction);
        assert_eq!(batch.entries.len(), 1);
    }
}

/// A command among few records and accounts, so that both repeat.
fn any_command() -> impl Strategy<Value = Command> {
    let kind = prop_oneof![Just(Kind::Deposit), Just(Kind::Withdrawal)];
    (1..60u128, 1..4u128, kind, 1..200i64, prop_oneof![9 => Just("KRW"), 1 => Just("USD")])
        .prop_map(|(record, account, kind, amount, code)| {
            command(record, account, kind, amount, code)
        })
}

/// Every command has a new record, and all commands of an account have one
/// currency: KRW, but USD for account 3.
fn new_commands() -> impl Strategy<Value = Vec<Command>> {
    let as_new = |(record, drawn): (u128, Command)| {
        let id = drawn.account_id.as_uuid().as_u128();
        let amount = drawn.amount.as_decimal().try_into().unwrap();
        command(record, id, drawn.kind, amount, if id == 3 { "USD" } else { "KRW" })
    };
    vec(any_command(), 0..60).prop_map(move |commands| (0..).zip(commands).map(as_new).collect())
}

proptest! {
    #[test]
    fn balances_are_the_sum_of_what_was_applied(commands in vec(any_command(), 0..200)) {
        let batch = decide(BTreeMap::new(), HashMap::new(), &commands);
        let mut balances: HashMap<AccountId, (Decimal, i64)> = HashMap::new();
        for entry in &batch.entries {
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
        for (id, account) in &batch.moved {
            prop_assert_eq!(balances[id], (account.balance.as_decimal(), account.seq));
        }
        prop_assert_eq!(batch.moved.len(), balances.len());
    }

    #[test]
    fn a_batch_has_its_forecast_effect_if_and_only_if_the_account_allows_it(
        commands in prop_oneof![1 => vec(any_command(), 0..9), 9 => new_commands()],
        held in vec(0..1500i64, 4), full in any::<bool>(),
    ) {
        let Some(forecast) = forecast(&commands) else {
            let mut records = HashSet::new();
            let mut currencies = HashMap::new();
            let repeated = commands.iter().any(|command| {
                let currency = currencies.entry(command.account_id).or_insert(command.currency);
                !records.insert(command.record_id) || *currency != command.currency
            });
            prop_assert!(repeated);
            return Ok(());
        };
                let krw = Currency::parse("KRW").unwrap();
        // Balances are small, or close to the limit.
        let held = |id: &AccountId| {
            let held = Decimal::from(held[usize::from(id.as_uuid().as_bytes()[15]) % 4]);
            if full { MONEY_LIMIT - Decimal::ONE - held } else { held }
        };
        let account = |id: &AccountId| Account {
            currency: krw,
            balance: Balance::from_decimal(held(id), krw).unwrap(),
            seq: 7,
        };
        let before: BTreeMap<_, _> =
            forecast.accounts.keys().map(|id| (*id, account(id))).collect();
        let batch = decide(before.clone(), HashMap::new(), &commands);
        for (id, effect) in &forecast.accounts {
            let account = before[id];
            let mut entries = batch.entries.iter().zip(&forecast.totals)
                .filter(|(entry, _)| entry.account_id == *id);
            prop_assert_eq!(effect.is_allowed_by(&account), entries.all(|(entry, total)| {
                let balance = account.balance.as_decimal() + total.net;
                matches!(entry.outcome, Outcome::Applied { balance_after, account_seq }
                    if balance_after.as_decimal() == balance && account_seq == 7 + total.count)
            }));
        }
    }

    #[test]
    fn each_record_is_decided_once_however_its_commands_are_batched(
        records in vec(1..60u128, 0..120), cut in 0..120usize,
    ) {
        // The record's number determines its command: commands repeat, but never contradict.
        let command_of = |record: &u128| {
            let kind = if record.is_multiple_of(3) { Kind::Withdrawal } else { Kind::Deposit };
            command(*record, record % 4, kind, i64::try_from(record * 37 % 50 + 1).unwrap(), "KRW")
        };
        let commands: Vec<_> = records.iter().map(command_of).collect();
        let whole = decide(BTreeMap::new(), HashMap::new(), &commands);
        let (first, second) = commands.split_at(cut.min(commands.len()));
        let one = decide(BTreeMap::new(), HashMap::new(), first);
        // An account with refusals only is not in `moved`: it counts as empty.
        let accounts = one.moved.clone();
        let decided = one.entries.iter().map(|entry| (entry.record_id, *entry)).collect();
        let two = decide(accounts, decided, second);
        let parts: Vec<_> = one.entries.iter().chain(&two.entries).cloned().collect();
        prop_assert_eq!(parts, whole.entries);
    }
}
