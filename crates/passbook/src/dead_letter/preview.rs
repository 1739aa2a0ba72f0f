//! Previews the effect of replaying a dead letter. Pure: the services' own rules decide, on the
//! rows of the lookup.

use std::{fmt, slice};

use contract::{
    Balance, Command, Kind, Movement, Outcome, RecordId, TransactionResult, bundle::Bundle,
    subjects,
};
use ledger::{Contradiction, Decision, Effect, Entry, SettledAs};

use super::{DeadLetter, KnownRecords};

/// The effect of a replay.
#[derive(Debug, PartialEq, Eq)]
pub enum Preview {
    /// A service would process the message, with this effect.
    Processed(String),
    /// The message would become a dead letter again, for this reason.
    DeadLetteredAgain(String),
    /// A service would process the message, with this unwanted effect.
    Harmful(String),
}

/// Previews a letter with its records.
pub fn of(letter: &DeadLetter, known: &KnownRecords) -> Preview {
    if let Some(reason) = letter.records.iter().find_map(|id| known.invalid.get(id)) {
        return Preview::Harmful(reason.clone());
    }
    match letter.subject() {
        Some(subject @ (subjects::DEPOSIT | subjects::WITHDRAWAL)) => {
            let one = |body: &[u8]| match Command::parse(subject, body) {
                Ok(command) => of_command(&command, known),
                Err(invalid) => Preview::DeadLetteredAgain(invalid.to_string()),
            };
            of_message(Bundle::Commands, &letter.payload, one)
        }
        Some(subject @ (subjects::RESULT_DEPOSIT | subjects::RESULT_WITHDRAWAL)) => {
            let one = |body: &[u8]| match TransactionResult::parse(subject, body) {
                Ok(result) => of_result(&result, known),
                Err(invalid) => Preview::DeadLetteredAgain(invalid.to_string()),
            };
            of_message(Bundle::Results, &letter.payload, one)
        }
        Some(subject) => Preview::Processed(format!(
            "neither a command nor a result: it is published to {subject} without a preview"
        )),
        None => Preview::DeadLetteredAgain("it does not name its original subject".to_owned()),
    }
}

/// Previews a message with one command or result, or with several.
fn of_message(content: Bundle, payload: &[u8], one: impl Fn(&[u8]) -> Preview) -> Preview {
    match content.parse(payload) {
        Ok(None) => one(payload),
        Ok(Some(parts)) => {
            of_parts(content, parts.iter().map(|part| one(part.body.as_bytes())).collect())
        }
        Err(invalid) => Preview::DeadLetteredAgain(invalid.to_string()),
    }
}

/// The worst effect of the parts decides.
fn of_parts(content: Bundle, parts: Vec<Preview>) -> Preview {
    let is_harmful = parts.iter().any(|part| matches!(part, Preview::Harmful(_)));
    let comes_back = |part: &Preview| matches!(part, Preview::DeadLetteredAgain(_));
    let all_come_back = parts.iter().all(comes_back);
    let texts = parts.into_iter().zip(1..).map(|(part, number)| match part {
        Preview::Processed(text) | Preview::Harmful(text) => format!("{number}: {text}"),
        Preview::DeadLetteredAgain(text) if all_come_back => format!("{number}: {text}"),
        Preview::DeadLetteredAgain(text) => format!("{number}: a dead letter of its own: {text}"),
    });
    let texts: Vec<_> = texts.collect();
    let text = format!("a message with {} {}: {}", texts.len(), content.field(), texts.join("; "));
    match (is_harmful, all_come_back) {
        (true, _) => Preview::Harmful(text),
        (false, true) => Preview::DeadLetteredAgain(text),
        (false, false) => Preview::Processed(text),
    }
}

fn of_command(command: &Command, known: &KnownRecords) -> Preview {
    let id = command.record_id;
    let movement = Described(command.movement());
    let transaction = known.transactions.get(&id);
    let account = known.accounts.get(&command.account_id);
    let decided = transaction.map(|transaction| (id, transaction.entry)).into_iter().collect();
    let accounts = account.map(|account| (command.account_id, *account)).into_iter().collect();
    let batch = ledger::decide(accounts, decided, slice::from_ref(command));
    if batch.decisions.contains(&Decision::Contradiction) {
        let reason = format!("record {id} was decided for another movement");
        return Preview::DeadLetteredAgain(reason);
    }
    if let Some(transaction) = transaction {
        return Preview::Processed(format!(
            "record {id} ({movement}): already decided {}; only the outcome is published again, no \
             balance moves",
            Status(transaction.settlement.settled_as)
        ));
    }
    let Some(record) = known.records.get(&id) else {
        return Preview::Harmful(format!(
            "no record {id} exists: a {movement} would move money that nobody asked for"
        ));
    };
    if record.movement != command.movement() {
        return Preview::Harmful(format!(
            "record {id} asks for another movement: a {movement} would move money that nobody asked \
             for"
        ));
    }
    if let Some(settlement) = record.settlement {
        return Preview::Harmful(format!(
            "record {id} is {}, but the ledger has no transaction of it: see `passbook verify` first",
            Status(settlement.settled_as)
        ));
    }
    let balance = account.map_or(Balance::zero(command.currency), |account| account.balance);
    let decision = batch.entries.first().map(|entry| describe_decision(entry, balance));
    Preview::Processed(format!(
        "record {id} (PENDING, {movement}): not decided yet; {}",
        decision.unwrap_or_default()
    ))
}

fn describe_decision(entry: &Entry, balance: Balance) -> String {
    match entry.outcome {
        Outcome::Applied { balance_after, .. } => {
            format!("would be decided SUCCESS; balance now {balance} → {balance_after}")
        }
        Outcome::Refused(reason) => {
            format!("would be decided FAILED ({reason}); balance stays {balance}")
        }
    }
}

fn of_result(result: &TransactionResult, known: &KnownRecords) -> Preview {
    let id = result.record_id;
    let Some(record) = known.records.get(&id) else {
        return Preview::DeadLetteredAgain(format!("there is no record {id}"));
    };
    match ledger::effect_of(record.movement, record.settlement, result) {
        Effect::Settles(settlement) => {
            let outcome = Settled(settlement.settled_as);
            let is_decided = known.transactions.get(&id).is_some_and(|transaction| {
                transaction.entry.movement() == result.movement()
                    && transaction.settlement == settlement
            });
            if is_decided {
                Preview::Processed(format!("record {id} (PENDING): would become {outcome}"))
            } else {
                Preview::Harmful(format!(
                    "record {id} is PENDING and would become {outcome}, which the ledger did not \
                     decide"
                ))
            }
        }
        Effect::None => {
            let outcome = record.settlement.map(|settlement| Settled(settlement.settled_as));
            let outcome = outcome.map(|outcome| outcome.to_string()).unwrap_or_default();
            Preview::Processed(format!("record {id}: already {outcome}; nothing changes"))
        }
        Effect::Contradicts(Contradiction::Movement) => {
            Preview::DeadLetteredAgain(format!("record {id}: {}", Contradiction::Movement))
        }
        Effect::Contradicts(Contradiction::Outcome) => {
            let status = record.settlement.map(|settlement| Status(settlement.settled_as));
            let status = status.map(|status| status.to_string()).unwrap_or_default();
            Preview::DeadLetteredAgain(format!(
                "record {id} is already {status} and the result contradicts it"
            ))
        }
    }
}

/// Describes the state of a letter's records, for discarding the letter.
pub fn record_state(letter: &DeadLetter, known: &KnownRecords) -> String {
    if letter.records.is_empty() {
        return "it names no record: nothing changes".to_owned();
    }
    let states = letter.records.iter().map(|id| state_of(*id, known));
    states.collect::<Vec<_>>().join("; ")
}

fn state_of(id: RecordId, known: &KnownRecords) -> String {
    if let Some(reason) = known.invalid.get(&id) {
        return reason.clone();
    }
    let record = known.records.get(&id);
    let account = record.and_then(|record| known.accounts.get(&record.movement.account_id));
    let balance = account.map_or("0".to_owned(), |account| account.balance.to_string());
    match (record, known.transactions.get(&id)) {
        (None, None) => format!("no record {id} exists: nothing changes"),
        (None, Some(_)) => format!(
            "no record {id} exists, but the ledger has a transaction of it: see `passbook verify`"
        ),
        (Some(record), Some(transaction)) => format!(
            "record {id} is {}, the ledger decided {}; balance stays {balance}",
            record
                .settlement
                .map_or("PENDING".to_owned(), |settlement| Status(settlement.settled_as)
                    .to_string()),
            Status(transaction.settlement.settled_as)
        ),
        (Some(record), None) => match record.settlement {
            None => format!(
                "record {id} is PENDING ({}), not decided; the redrive publishes its command again \
                 from the record; balance stays {balance}",
                Described(record.movement)
            ),
            Some(settlement) => format!(
                "record {id} is {}, but the ledger has no transaction of it: see `passbook verify`",
                Status(settlement.settled_as)
            ),
        },
    }
}

/// `deposit of 100 KRW to account …`
struct Described(Movement);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Movement { account_id, kind, amount, currency } = self.0;
        match kind {
            Kind::Deposit => write!(f, "deposit of {amount} {currency} to account {account_id}"),
            Kind::Withdrawal => {
                write!(f, "withdrawal of {amount} {currency} from account {account_id}")
            }
        }
    }
}

/// `SUCCESS`, or `FAILED (INSUFFICIENT_FUNDS)`
struct Status(SettledAs);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SettledAs::Success(_) => f.write_str("SUCCESS"),
            SettledAs::Failed(reason) => write!(f, "FAILED ({reason})"),
        }
    }
}

/// `SUCCESS, balance 100`, or `FAILED (INSUFFICIENT_FUNDS)`
struct Settled(SettledAs);

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SettledAs::Success(balance) => write!(f, "SUCCESS, balance {balance}"),
            failed => Status(failed).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{AccountId, Amount, Currency, Reason, UserId};
    use ledger::{Account, Settlement};
    use time::OffsetDateTime;

    use super::*;
    use crate::dead_letter::{KnownRecord, KnownTransaction};

    /// A withdrawal of 100 KRW, and a PENDING record of it.
    fn pending_withdrawal() -> (Command, KnownRecords) {
        let currency = Currency::parse("KRW").unwrap();
        let command = Command {
            record_id: RecordId::new(),
            account_id: AccountId::new(),
            user_id: UserId::try_from("teller".to_owned()).unwrap(),
            kind: Kind::Withdrawal,
            amount: Amount::parse("100", currency).unwrap(),
            currency,
            requested_at: OffsetDateTime::UNIX_EPOCH,
        };
        let mut known = KnownRecords::default();
        let record = KnownRecord { movement: command.movement(), settlement: None };
        known.records.insert(command.record_id, record);
        (command, known)
    }

    fn result(command: &Command, outcome: Outcome) -> TransactionResult {
        TransactionResult {
            record_id: command.record_id,
            transaction_id: 7,
            account_id: command.account_id,
            kind: command.kind,
            amount: command.amount,
            currency: command.currency,
            outcome,
            processed_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn text(preview: &Preview) -> &str {
        match preview {
            Preview::Processed(text)
            | Preview::DeadLetteredAgain(text)
            | Preview::Harmful(text) => text,
        }
    }

    #[test]
    fn an_undecided_command_is_decided_by_the_ledgers_rules() {
        let (command, mut known) = pending_withdrawal();
        let preview = of_command(&command, &known);
        assert!(
            text(&preview).ends_with("FAILED (INSUFFICIENT_FUNDS); balance stays 0"),
            "{preview:?}"
        );
        let mut account = Account::empty(command.currency);
        account.balance = account.balance.plus(command.amount).unwrap();
        known.accounts.insert(command.account_id, account);
        let preview = of_command(&command, &known);
        assert!(text(&preview).ends_with("SUCCESS; balance now 100 → 0"), "{preview:?}");
        assert!(matches!(preview, Preview::Processed(_)));
    }

    #[test]
    fn a_command_that_nobody_asked_for_is_harmful() {
        let (command, known) = pending_withdrawal();
        let forged = Command { record_id: RecordId::new(), ..command.clone() };
        assert!(matches!(of_command(&forged, &known), Preview::Harmful(_)));
        let changed = Command { kind: Kind::Deposit, ..command };
        assert!(matches!(of_command(&changed, &known), Preview::Harmful(_)));
    }

    #[test]
    fn a_message_with_several_commands_is_as_harmful_as_its_worst_command() {
        let (command, known) = pending_withdrawal();
        let body = |command: &Command| serde_json::to_string(command).unwrap();
        let forged = Command { record_id: RecordId::new(), ..command.clone() };
        let of = |commands: &[String]| {
            let message = format!("{{\"commands\":[{}]}}", commands.join(","));
            of_message(Bundle::Commands, message.as_bytes(), |body| {
                match Command::parse(subjects::WITHDRAWAL, body) {
                    Ok(command) => of_command(&command, &known),
                    Err(invalid) => Preview::DeadLetteredAgain(invalid.to_string()),
                }
            })
        };
        let (good, bad, invalid) = (body(&command), body(&forged), "5".to_owned());
        let preview = of(&[good.clone(), invalid.clone()]);
        assert!(matches!(preview, Preview::Processed(_)), "{preview:?}");
        assert!(text(&preview).contains("; 2: a dead letter of its own: "), "{preview:?}");
        assert!(matches!(of(&[good, bad]), Preview::Harmful(_)));
        assert!(matches!(of(&[invalid]), Preview::DeadLetteredAgain(_)));
        let many = vec!["5".to_owned(); 101];
        let expected = "commands must have 1 to 100 items, not 101".to_owned();
        assert_eq!(of(&many), Preview::DeadLetteredAgain(expected));
    }

    #[test]
    fn only_a_result_decided_by_the_ledger_settles_a_pending_record() {
        let (command, mut known) = pending_withdrawal();
        let outcome = Outcome::Refused(Reason::InsufficientFunds);
        let result = result(&command, outcome);
        assert!(matches!(of_result(&result, &known), Preview::Harmful(_)));
        let entry = Entry::new(&command, outcome);
        let settlement = Settlement::from(&result);
        known.transactions.insert(command.record_id, KnownTransaction { entry, settlement });
        assert!(matches!(of_result(&result, &known), Preview::Processed(_)));
    }

    #[test]
    fn a_result_that_contradicts_its_record_becomes_a_dead_letter_again() {
        let (command, mut known) = pending_withdrawal();
        let result = result(&command, Outcome::Refused(Reason::InsufficientFunds));
        let settlement = Settlement { transaction_id: 8, ..Settlement::from(&result) };
        let record = KnownRecord { movement: command.movement(), settlement: Some(settlement) };
        known.records.insert(command.record_id, record);
        assert!(matches!(of_result(&result, &known), Preview::DeadLetteredAgain(_)));
    }
}
