//! Invalid messages are dead-lettered and delay no other message.

use std::time::Duration;

use async_nats::jetstream;
use serde_json::{Value, json};
use tests::{Client, Stack, broker, client::new_key, invariants};

const SOON: Duration = Duration::from_secs(15);

/// Publishes a message. Gives the reason of its dead letter.
async fn reason_of(jetstream: &jetstream::Context, subject: &str, payload: &str) -> String {
    broker::publish(jetstream, subject, &new_key(), payload).await;
    broker::dead_letter(jetstream, SOON, |body| body == payload.as_bytes()).await.reason
}

#[tokio::test]
async fn an_invalid_command_is_dead_lettered_and_delays_no_other() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let record = client.deposit(&account, "100").await;
    let valid = broker::command_of(&record);
    let with = |field: &str, value: Value| {
        let mut command = valid.clone();
        command[field] = value;
        command["recordId"] = json!(new_key());
        command.to_string()
    };
    let mut contradicting = valid.clone();
    contradicting["amount"] = json!("101");
    for (payload, reason) in [
        (format!("no JSON {}", new_key()), "command"),
        (with("amount", json!(100)), "string"),
        (with("amount", json!("-100")), "greater than zero"),
        (with("amount", json!("1e400")), "amount"),
        (with("currency", json!("WON")), "currency"),
        (with("type", json!("WITHDRAWAL")), "transaction.deposit"),
        (contradicting.to_string(), record.text("recordId")),
    ] {
        let found = reason_of(&jetstream, "transaction.deposit", &payload).await;
        assert!(found.contains(reason), "{payload}: {found}");
    }
    let after = client.deposit(&account, "1").await;
    assert_eq!(after.text("balanceAfter"), "101");
}

#[tokio::test]
async fn a_poison_message_of_the_largest_size_is_dead_lettered_too() {
    let stack = Stack::shared().await;
    let jetstream = broker::connect(stack).await;
    let largest = jetstream.client().server_info().max_payload;
    let id = new_key();
    // The server's limit includes the headers.
    let headers = "NATS/1.0\r\nNats-Msg-Id: \r\n\r\n".len() + id.len();
    let payload = format!("{id}{}", "x".repeat(largest - headers - id.len()));
    broker::publish(&jetstream, "transaction.deposit", &id, payload).await;
    let dead_letter =
        broker::dead_letter(&jetstream, SOON, |body| body.starts_with(id.as_bytes())).await;
    // The body is truncated, to make room for the headers of the dead letter.
    let length = dead_letter.body.len();
    assert!(length > largest / 2 && length < largest, "{length}");
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
}

#[tokio::test]
async fn a_message_id_too_long_to_be_repeated_delays_nothing() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    // The server limits the headers of a message to 64 KiB. A result and a dead letter repeat the
    // id of their message beside headers of their own.
    let long_id = || format!("{}{}", new_key(), "x".repeat(65_000));
    let settled = client.deposit(&account, "100").await;
    let mut results = broker::results(&jetstream).await;
    let repeated = broker::command_of(&settled).to_string();
    broker::publish(&jetstream, "transaction.deposit", &long_id(), repeated).await;
    broker::result_of(&mut results, settled.text("recordId")).await;
    for subject in ["transaction.deposit", "transaction.result.deposit"] {
        let garbage = format!("no JSON {}", new_key());
        broker::publish(&jetstream, subject, &long_id(), garbage.clone()).await;
        broker::dead_letter(&jetstream, SOON, |body| body == garbage.as_bytes()).await;
    }
    let mut part = broker::command_of(&settled);
    part["messageId"] = json!("y".repeat(70_000));
    part["amount"] = json!("101");
    let message = json!({ "commands": [part] }).to_string();
    broker::publish(&jetstream, "transaction.deposit", &new_key(), message).await;
    let id = settled.text("recordId");
    let contradicting = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        body["recordId"] == id && body["amount"] == "101"
    };
    broker::dead_letter(&jetstream, SOON, contradicting).await;
    broker::stream_holds(&jetstream, "TRANSACTION", 0, SOON).await;
    assert_eq!(client.deposit(&account, "1").await.text("balanceAfter"), "101");
}

#[tokio::test]
async fn a_forged_result_changes_nothing_and_is_dead_lettered() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let forge = |record: &str, status: &str, amount: &str, balance: &str| {
        let success = status == "SUCCESS";
        json!({
            "recordId": record, "transactionId": 1, "accountId": account, "type": "DEPOSIT",
            "amount": amount, "currency": "KRW", "status": status,
            "reason": if success { Value::Null } else { json!("INSUFFICIENT_FUNDS") },
            "balanceAfter": if success { json!(balance) } else { Value::Null },
            "accountSeq": if success { json!(9) } else { Value::Null },
            "processedAt": "2026-01-02T03:04:05Z",
        })
        .to_string()
    };
    let record = settled.text("recordId");
    let unknown = new_key();
    let jetstream = broker::connect(stack).await;
    for (payload, reason) in [
        (forge(record, "SUCCESS", "100", "1000000"), "another outcome"),
        (forge(record, "FAILED", "100", ""), "another outcome"),
        (forge(record, "SUCCESS", "101", "101"), "account, type, amount"),
        (forge(&unknown, "SUCCESS", "100", "200"), unknown.as_str()),
        (format!("no JSON {}", new_key()), "result"),
    ] {
        let found = reason_of(&jetstream, "transaction.result.deposit", &payload).await;
        assert!(found.contains(reason), "{payload}: {found}");
    }
    assert_eq!(client.record(record).await.body, settled.body);
    assert_eq!(client.account(&account).await.text("balance"), "100");
    invariants::holds(&stack.ledger().await, "accounts", &account, 100).await.unwrap();
}
