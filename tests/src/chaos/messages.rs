//! Messages an experiment publishes itself: with one command or result, and with
//! several. A field marks each of them, so that their dead letters can be told
//! from those of the system's own messages.

use contract::subjects::{DEPOSIT, RESULT_DEPOSIT as RESULT, WITHDRAWAL};
use serde_json::{Value, json};

use super::load::Accepted;
use crate::client::new_key;

/// A subject and a body.
pub(super) type Message = (&'static str, String);

/// The marking field: a text in a valid message, `null` in an invalid one.
const MARK: &str = "injected by chaos";
/// The numbers of commands or results in messages, in turn.
const SIZES: [usize; 6] = [1, 2, 3, 7, 20, 100];
/// Maximum commands or results of a message.
const MAX_PARTS: usize = 100;

/// Second commands for accepted movements, in messages of every size. Some messages hold a
/// command twice, or one poison part.
pub(super) fn repeated_commands(of: &[Accepted]) -> Vec<Message> {
    let mut messages = Vec::new();
    for (kind, subject) in [("DEPOSIT", DEPOSIT), ("WITHDRAWAL", WITHDRAWAL)] {
        let of: Vec<_> = of.iter().filter(|accepted| accepted.kind == kind).collect();
        let commands: Vec<_> = of.iter().map(|accepted| repeated_command(accepted)).collect();
        let decided = of.iter().find(|accepted| accepted.status.is_some());
        for (number, mut parts) in in_sizes(commands).into_iter().enumerate() {
            let middle = parts.len() / 2;
            match number % 5 {
                0 => {}
                1 => parts.insert(middle, poison_part(number)),
                2 => parts.push(parts[0].clone()),
                3 => parts.insert(middle, json!(MARK)),
                _ => parts.extend(decided.map(|accepted| contradicting_command(accepted))),
            }
            parts.truncate(MAX_PARTS);
            messages.push((subject, message("commands", parts, number)));
        }
    }
    messages
}

/// Results that the ledger never decided, in messages of every size.
pub(super) fn forged_results(of: &[Accepted]) -> Vec<Message> {
    let results = of.iter().map(forged_result).collect();
    let messages = in_sizes(results).into_iter().enumerate();
    messages.map(|(number, parts)| (RESULT, message("results", parts, number))).collect()
}

/// The poison message with this number: truncated JSON, or an invalid array of parts.
pub(super) fn poison(number: u16) -> Message {
    let subjects = [DEPOSIT, WITHDRAWAL, RESULT];
    let subject = subjects[usize::from(number) % subjects.len()];
    let field = if subject.contains("result") { "results" } else { "commands" };
    let parts = |count: usize| (0..count).map(poison_part).collect::<Vec<_>>();
    let array = match number / 3 % 6 {
        1 => json!([]),
        2 => json!({ "recordId": number }),
        3 => json!(parts(MAX_PARTS + 1)),
        4 => return (subject, json!({ field: parts(3) }).to_string()),
        _ => return (subject, format!("{{\"recordId\": {number}, \"{MARK}\": null")),
    };
    (subject, json!({ field: array, MARK: null }).to_string())
}

/// A poison message of nearly the maximum size. Its mark survives that the dead letter is truncated.
pub(super) fn large_poison(number: u16, largest: usize) -> Message {
    let (subject, mut body) = poison(1);
    body.insert_str(0, &format!("{{\"{MARK}\": null, \"number\": {number}, "));
    body.push_str(&"x".repeat(largest.saturating_sub(body.len() + 200)));
    (subject, body)
}

/// Second commands for accepted movements, and as many poison messages, with long message ids.
pub(super) fn with_long_ids(of: &[Accepted]) -> Vec<(String, Message)> {
    let commands = of.iter().map(|accepted| {
        let subject = if accepted.kind == "DEPOSIT" { DEPOSIT } else { WITHDRAWAL };
        (subject, repeated_command(accepted).to_string())
    });
    let messages = (0..).zip(of).map(|(number, _)| poison(number)).chain(commands);
    messages.map(|message| (format!("{}{}", new_key(), "x".repeat(65_000)), message)).collect()
}

fn repeated_command(of: &Accepted) -> Value {
    json!({
        "recordId": of.record, "accountId": of.account, "userId": "teller",
        "type": of.kind, "amount": of.amount.to_string(), "currency": "KRW",
        "requestedAt": "2026-01-02T03:04:05Z", MARK: "a valid copy",
    })
}

/// A command for another amount than the ledger has decided.
fn contradicting_command(of: &Accepted) -> Value {
    let mut command = repeated_command(of);
    command["amount"] = json!((of.amount + 1).to_string());
    command[MARK] = Value::Null;
    command
}

fn forged_result(of: &Accepted) -> Value {
    json!({
        "recordId": of.record, "transactionId": 1, "accountId": of.account,
        "type": "DEPOSIT", "amount": (of.amount + 1).to_string(), "currency": "KRW",
        "status": "SUCCESS", "reason": null, "balanceAfter": "999999999",
        "accountSeq": 999_999, "processedAt": "2026-01-02T03:04:05Z", MARK: null,
    })
}

fn poison_part(number: usize) -> Value {
    json!({ "recordId": number, MARK: null })
}

/// Splits the parts into messages. The first size depends on the number of parts.
fn in_sizes(mut parts: Vec<Value>) -> Vec<Vec<Value>> {
    let mut messages = Vec::new();
    for size in SIZES.iter().cycle().skip(parts.len() % SIZES.len()) {
        if parts.is_empty() {
            break;
        }
        messages.push(parts.split_off(parts.len().saturating_sub(*size)));
    }
    messages
}

/// The body of a message: every other part has a message id of its own, and every other single
/// part is a message in the form of one.
fn message(field: &str, mut parts: Vec<Value>, number: usize) -> String {
    if number.is_multiple_of(2)
        && let [single] = &parts[..]
    {
        return single.to_string();
    }
    for part in parts.iter_mut().step_by(2).filter(|part| part.is_object()) {
        part["messageId"] = json!(new_key());
        part["traceparent"] = json!("no trace context");
    }
    json!({ field: parts }).to_string()
}

/// Whether a dead letter holds a forged result, a poison message or a poison part. A dead letter
/// of any other message is a finding: the copy of a command, for one, is valid.
pub(super) fn is_expected_dead_letter(body: &[u8]) -> bool {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let forged =
        parsed.is_some_and(|value| value == MARK || value.get(MARK).is_some_and(Value::is_null));
    forged || String::from_utf8_lossy(body).contains("\": null")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use contract::{Command, bundle::Bundle};

    use super::*;

    fn accepted(kind: &'static str, count: u64) -> Vec<Accepted> {
        let one = |amount| Accepted {
            record: new_key(),
            account: new_key(),
            kind,
            amount,
            key: new_key(),
            status: (amount % 2 == 0).then(|| "SUCCESS".to_owned()),
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn each_accepted_movement_is_repeated_and_each_other_part_is_marked_as_poison() {
        let of = [accepted("DEPOSIT", 199), accepted("WITHDRAWAL", 20)].concat();
        let (mut sizes, mut repeated, mut poison) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (subject, body) in repeated_commands(&of) {
            let parts = Bundle::Commands.parse(body.as_bytes()).unwrap();
            let single = parts.is_none().then_some(body.as_str());
            let bodies: Vec<_> = parts.iter().flatten().map(|part| part.body).collect();
            sizes.insert(bodies.len());
            for body in bodies.into_iter().chain(single) {
                if is_expected_dead_letter(body.as_bytes()) {
                    poison += 1;
                } else {
                    let command = Command::parse(subject, body.as_bytes()).unwrap();
                    repeated.insert(command.record_id.to_string());
                }
            }
        }
        let records: BTreeSet<_> = of.iter().map(|of| of.record.clone()).collect();
        assert!(repeated.is_subset(&records));
        // A poison part in a full message takes the place of a command.
        assert!(repeated.len() + 2 >= records.len(), "{} repeated", repeated.len());
        assert!(poison >= 3, "{poison}");
        assert!(sizes.len() >= 5, "{sizes:?}");
    }

    #[test]
    fn each_forged_result_and_poison_message_is_expected_as_dead_letters() {
        let forged = forged_results(&accepted("DEPOSIT", 60));
        let large = large_poison(7, 100_000);
        assert!((90_000..100_000).contains(&large.1.len()), "{}", large.1.len());
        let poison: Vec<_> = (0..40).map(poison).chain([large]).collect();
        let mut invalid = 0;
        for (subject, body) in forged.iter().chain(&poison) {
            let content =
                if subject.contains("result") { Bundle::Results } else { Bundle::Commands };
            match content.parse(body.as_bytes()) {
                Ok(Some(parts)) => assert!(
                    parts.iter().all(|part| is_expected_dead_letter(part.body.as_bytes())),
                    "{body}"
                ),
                Ok(None) => assert!(is_expected_dead_letter(body.as_bytes()), "{body}"),
                Err(_) => {
                    invalid += 1;
                    assert!(is_expected_dead_letter(body.as_bytes()), "{body}");
                }
            }
        }
        assert!(invalid > 5, "{invalid}");
    }
}
