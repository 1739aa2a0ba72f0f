//! Messages an experiment publishes itself. A field marks each of them, so that
//! their dead letters can be told from those of the system's own messages.

use serde_json::{Value, json};

use super::load::Accepted;

/// The marking field: a text in a valid message, `null` in an invalid one.
const MARK: &str = "injected by chaos";

/// A second command for an accepted movement.
pub(super) fn repeated_command(of: &Accepted) -> (&'static str, String) {
    let subject =
        if of.kind == "DEPOSIT" { "transaction.deposit" } else { "transaction.withdrawal" };
    let command = json!({
        "recordId": of.record, "accountId": of.account, "userId": "teller",
        "type": of.kind, "amount": of.amount.to_string(), "currency": "KRW",
        "requestedAt": "2026-01-02T03:04:05Z", MARK: "a valid copy",
    });
    (subject, command.to_string())
}

/// A result the ledger never decided.
pub(super) fn forged_result(of: &Accepted) -> (&'static str, String) {
    let result = json!({
        "recordId": of.record, "transactionId": 1, "accountId": of.account,
        "type": "DEPOSIT", "amount": (of.amount + 1).to_string(), "currency": "KRW",
        "status": "SUCCESS", "reason": null, "balanceAfter": "999999999",
        "accountSeq": 999_999, "processedAt": "2026-01-02T03:04:05Z", MARK: null,
    });
    ("transaction.result.deposit", result.to_string())
}

/// The poison message with this number: truncated JSON.
pub(super) fn poison(number: u16) -> (&'static str, String) {
    let subjects = ["transaction.deposit", "transaction.withdrawal", "transaction.result.deposit"];
    let subject = subjects[usize::from(number) % subjects.len()];
    (subject, format!("{{\"recordId\": {number}, \"{MARK}\": null"))
}

/// Whether a dead letter holds a forged result or a poison message. A dead letter of any other
/// message is a finding: the copy of a command, for one, is valid.
pub(super) fn is_expected_dead_letter(body: &[u8]) -> bool {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let forged = parsed.is_some_and(|value| value.get(MARK).is_some_and(Value::is_null));
    forged || String::from_utf8_lossy(body).contains("\": null")
}
