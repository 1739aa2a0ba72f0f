//! What would become of a letter's message if it were sent again. Pure: it
//! decides from what stands in the books, as the services would.

use contract::{
    Amount, Balance, Command, Currency, Kind, Outcome, Reason, TransactionResult, subjects,
};

use super::{books::Known, letter::Letter};
use crate::database::Movement;

/// What a redrive would come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Prospect {
    /// It would be processed, to this effect.
    Processed(String),
    /// It would only come back as a dead letter.
    ComesBack(String),
    /// It would be processed, and that must not be.
    Harms(String),
}

/// Looks at a letter beside what is known of its record.
pub(super) fn of(letter: &Letter, known: &Known) -> Prospect {
    match letter.subject() {
        Some(subject @ (subjects::DEPOSIT | subjects::WITHDRAWAL)) => {
            match serde_json::from_slice::<Command>(&letter.payload) {
                Err(error) => Prospect::ComesBack(format!("not a command: {error}")),
                Ok(command) if command.kind.command_subject() != subject => {
                    Prospect::ComesBack(format!("a {} on the subject {subject}", command.kind))
                }
                Ok(command) => of_command(&command, known),
            }
        }
        Some(subject @ (subjects::RESULT_DEPOSIT | subjects::RESULT_WITHDRAWAL)) => {
            match serde_json::from_slice::<TransactionResult>(&letter.payload) {
                Err(error) => Prospect::ComesBack(format!("not a result: {error}")),
                Ok(result) if result.kind.result_subject() != subject => Prospect::ComesBack(
                    format!("a result of a {} on the subject {subject}", result.kind),
                ),
                Ok(result) => of_result(&result, known),
            }
        }
        Some(subject) => Prospect::Processed(format!(
            "no command and no result: it is sent to {subject} again, whatever that does"
        )),
        None => Prospect::ComesBack("it does not say where it was published".to_owned()),
    }
}

fn of_command(command: &Command, known: &Known) -> Prospect {
    let id = command.record_id;
    let asks = movement(command.kind, command.amount, command.currency, &command.account_id);
    let same = |it: &Movement| {
        is_same(it, command.account_id.as_uuid(), command.kind, command.amount, command.currency)
    };
    if let Some(decided) = known.transactions.get(&id.as_uuid()) {
        return if same(decided) {
            Prospect::Processed(format!(
                "record {id} ({asks}): already decided {}; only its outcome is told again, no \
                 balance moves",
                outcome(decided)
            ))
        } else {
            Prospect::ComesBack(format!("record {id} was decided for another movement"))
        };
    }
    let Some(record) = known.records.get(&id.as_uuid()) else {
        return Prospect::Harms(format!(
            "no record {id} exists: a {asks} would move money that nobody asked for"
        ));
    };
    if !same(record) {
        return Prospect::Harms(format!(
            "record {id} asks for another movement: a {asks} would move money that nobody asked for"
        ));
    }
    if record.status != "PENDING" {
        return Prospect::Harms(format!(
            "record {id} is {} and the ledger has nothing: see `passbook verify` first",
            record.status
        ));
    }
    let account = known.accounts.get(&record.account_id);
    Prospect::Processed(format!(
        "record {id} (PENDING, {asks}): not decided yet; {}",
        decision(command, account)
    ))
}

/// As the ledger would decide now, with its own order of refusals.
fn decision(command: &Command, account: Option<&(String, rust_decimal::Decimal)>) -> String {
    let currency = command.currency;
    let (held, balance) = match account {
        Some((code, balance)) => {
            (code.as_str(), Balance::from_decimal(*balance, currency).ok_or(balance))
        }
        None => (currency.code(), Ok(Balance::zero(currency))),
    };
    let refused = |reason: Reason, balance: &dyn std::fmt::Display| {
        format!("would be decided FAILED ({reason}); balance stays {balance}")
    };
    let balance = match balance {
        Ok(balance) if held == currency.code() => balance,
        Ok(balance) => return refused(Reason::CurrencyMismatch, &balance),
        Err(balance) => return refused(Reason::CurrencyMismatch, &balance.normalize()),
    };
    let after = match command.kind {
        Kind::Deposit => balance.plus(command.amount).ok_or(Reason::BalanceLimitExceeded),
        Kind::Withdrawal => balance.minus(command.amount).ok_or(Reason::InsufficientFunds),
    };
    match after {
        Ok(after) => format!("would be decided SUCCESS; balance now {balance} → {after}"),
        Err(reason) => refused(reason, &balance),
    }
}

fn of_result(result: &TransactionResult, known: &Known) -> Prospect {
    let id = result.record_id;
    let same = |it: &Movement| {
        is_same(it, result.account_id.as_uuid(), result.kind, result.amount, result.currency)
    };
    let Some(record) = known.records.get(&id.as_uuid()) else {
        return Prospect::ComesBack(format!("there is no record {id}"));
    };
    if !same(record) {
        return Prospect::ComesBack(format!(
            "record {id}: the result is of another account, type, amount or currency"
        ));
    }
    let told = told(result);
    let says = |it: &Movement| says(it, result);
    match record.status.as_str() {
        "PENDING"
            if known.transactions.get(&id.as_uuid()).is_some_and(|it| same(it) && says(it)) =>
        {
            Prospect::Processed(format!("record {id} (PENDING): would become {told}"))
        }
        "PENDING" => Prospect::Harms(format!(
            "record {id} is PENDING and would become {told}, which the ledger did not decide"
        )),
        _ if says(record) => {
            Prospect::Processed(format!("record {id}: already {told}; nothing changes"))
        }
        status => Prospect::ComesBack(format!(
            "record {id} is already {status} and the result contradicts it"
        )),
    }
}

/// Whether a row is of this movement.
fn is_same(
    row: &Movement,
    account: uuid::Uuid,
    kind: Kind,
    amount: Amount,
    currency: Currency,
) -> bool {
    row.account_id == account
        && row.r#type == kind.as_str()
        && row.amount == amount.as_decimal()
        && row.currency == currency.code()
}

/// Whether a row, of the same movement, has the outcome that a result tells.
fn says(row: &Movement, result: &TransactionResult) -> bool {
    let outcome = match result.outcome {
        Outcome::Applied { balance_after, .. } => {
            row.status == "SUCCESS" && row.balance_after == Some(balance_after.as_decimal())
        }
        Outcome::Refused(reason) => {
            row.status == "FAILED" && row.reason.as_deref() == Some(reason.as_str())
        }
    };
    outcome && row.transaction_id == Some(result.transaction_id)
}

fn told(result: &TransactionResult) -> String {
    match result.outcome {
        Outcome::Applied { balance_after, .. } => format!("SUCCESS, balance {balance_after}"),
        Outcome::Refused(reason) => format!("FAILED ({reason})"),
    }
}

fn outcome(row: &Movement) -> String {
    let reason = row.reason.as_ref().map(|it| format!(" ({it})"));
    format!("{}{}", row.status, reason.unwrap_or_default())
}

fn movement(
    kind: Kind,
    amount: Amount,
    currency: Currency,
    account: &dyn std::fmt::Display,
) -> String {
    match kind {
        Kind::Deposit => format!("deposit of {amount} {} to account {account}", currency.code()),
        Kind::Withdrawal => {
            format!("withdrawal of {amount} {} from account {account}", currency.code())
        }
    }
}

/// How a letter's record stands, for whoever gives the letter up.
pub(super) fn standing(letter: &Letter, known: &Known) -> String {
    let Some(id) = letter.record else {
        return "it names no record: nothing changes".to_owned();
    };
    let record = known.records.get(&id.as_uuid());
    let decided = known.transactions.get(&id.as_uuid());
    let balance = record.and_then(|it| known.accounts.get(&it.account_id));
    let balance = balance.map_or("0".to_owned(), |(_, balance)| balance.normalize().to_string());
    match (record, decided) {
        (None, None) => format!("no record {id} exists: nothing changes"),
        (None, Some(_)) => {
            format!("no record {id} exists, and the ledger decided one: see `passbook verify`")
        }
        (Some(record), Some(decided)) => format!(
            "record {id} is {}, the ledger decided {}; balance stays {balance}",
            outcome(record),
            outcome(decided)
        ),
        (Some(record), None) if record.status == "PENDING" => format!(
            "record {id} is PENDING ({} of {} {}), not decided; its command is sent again from \
             the record itself; balance stays {balance}",
            record.r#type.to_lowercase(),
            record.amount.normalize(),
            record.currency
        ),
        (Some(record), None) => format!(
            "record {id} is {} and the ledger has nothing: see `passbook verify`",
            record.status
        ),
    }
}
