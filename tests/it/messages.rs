//! Messages that none of ours wrote.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Client, Stack, broker, checks, client::new_key, eventually};

async fn reason_of(stack: &Stack, payload: &str) -> String {
    let jetstream = broker::connect(stack).await;
    eventually("it is a dead letter", Duration::from_secs(15), || async {
        let letters = broker::dead_letters(&jetstream).await;
        letters.into_iter().find(|(body, _)| body == payload.as_bytes()).map(|(_, reason)| reason)
    })
    .await
}

#[tokio::test]
async fn a_command_that_can_not_be_read_is_a_dead_letter_and_holds_nobody_up() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(stack).await;
    let record = client.deposit(&account, "100").await;
    let good = broker::command_of(&record);
    let with = |field: &str, value: Value| {
        let mut command = good.clone();
        command[field] = value;
        command["recordId"] = json!(new_key());
        command.to_string()
    };
    let mut contradicting = good.clone();
    contradicting["amount"] = json!("101");
    for (payload, reason) in [
        (format!("no JSON {}", new_key()), "not a command"),
        (with("amount", json!(100)), "expected a string"),
        (with("amount", json!("-100")), "greater than zero"),
        (with("amount", json!("1e400")), "amount"),
        (with("currency", json!("WON")), "currency"),
        (with("type", json!("WITHDRAWAL")), "WITHDRAWAL on the subject transaction.deposit"),
        (contradicting.to_string(), "another movement"),
    ] {
        broker::publish(&jetstream, "transaction.deposit", &new_key(), payload.clone()).await;
        let told = reason_of(stack, &payload).await;
        assert!(told.contains(reason), "{payload}: {told}");
    }
    let after = client.deposit(&account, "1").await;
    assert_eq!(after.text("balanceAfter"), "101");
}

#[tokio::test]
async fn a_forged_result_changes_nothing_and_is_a_dead_letter() {
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
    let jetstream = broker::connect(stack).await;
    for (payload, reason) in [
        (forge(record, "SUCCESS", "100", "1000000"), "settled otherwise"),
        (forge(record, "FAILED", "100", ""), "settled otherwise"),
        (forge(record, "SUCCESS", "101", "101"), "another account, type, amount"),
        (forge(&new_key(), "SUCCESS", "100", "200"), "there is no record"),
        (format!("no JSON {}", new_key()), "not a result"),
    ] {
        broker::publish(&jetstream, "transaction.result.deposit", &new_key(), payload.clone())
            .await;
        let told = reason_of(stack, &payload).await;
        assert!(told.contains(reason), "{payload}: {told}");
    }
    assert_eq!(client.record(record).await.body, settled.body);
    assert_eq!(client.account(&account).await.text("balance"), "100");
    checks::holds(&stack.ledger().await, "accounts", &account, 100).await.unwrap();
}

#[tokio::test]
async fn a_command_without_a_message_id_is_answered_like_any_other() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let jetstream = broker::connect(stack).await;
    let mut results = broker::results(&jetstream).await;
    let command = broker::command_of(&settled).to_string();
    jetstream.publish("transaction.deposit", command.into()).await.unwrap().await.unwrap();
    let result = broker::result_of(&mut results, settled.text("recordId")).await;
    assert_eq!(result["transactionId"], settled.body["transactionId"]);
    checks::holds(&stack.ledger().await, "accounts", &account, 100).await.unwrap();
}
