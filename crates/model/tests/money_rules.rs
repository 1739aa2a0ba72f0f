//! The model decides as the ledger does.
#![allow(clippy::unwrap_used)]

use contract::{AccountId, Amount, Command, Currency, Kind, RecordId, UserId};
use ledger::Account;
use model::money::databases::{Balance, Outcome};
use rust_decimal::Decimal;
use time::OffsetDateTime;

/// What the ledger decides, in the model's terms.
fn decided_by_the_ledger(balance: Balance, amount: i8) -> Outcome {
    let currency = Currency::parse("KRW").unwrap();
    let mut account = Account {
        currency,
        balance: contract::Balance::from_decimal(balance.amount.into(), currency).unwrap(),
        seq: balance.seq.into(),
    };
    let outcome = account.apply(&Command {
        record_id: RecordId::new(),
        account_id: AccountId::new(),
        user_id: UserId::try_from("teller".to_owned()).unwrap(),
        kind: if amount < 0 { Kind::Withdrawal } else { Kind::Deposit },
        amount: Amount::from_decimal(Decimal::from(amount.unsigned_abs()), currency).unwrap(),
        currency,
        requested_at: OffsetDateTime::UNIX_EPOCH,
    });
    match outcome {
        contract::Outcome::Applied { balance_after, account_seq } => Outcome::Applied {
            balance_after: balance_after.as_decimal().try_into().unwrap(),
            account_seq: account_seq.try_into().unwrap(),
        },
        contract::Outcome::Refused(_) => Outcome::Refused,
    }
}

#[test]
fn the_model_decides_as_the_ledger_does() {
    for held in 0..=10 {
        for amount in (-12..=12).filter(|amount| *amount != 0) {
            let balance = Balance { amount: held, seq: 3 };
            assert_eq!(balance.decide(amount), decided_by_the_ledger(balance, amount));
        }
    }
}
