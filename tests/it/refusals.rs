//! Movements refused by the ledger. A refusal never changes.

use serde_json::Value;
use sqlx::Row;
use tests::{Client, Stack, broker, invariants};
use uuid::Uuid;

#[tokio::test]
async fn a_refused_withdrawal_stays_refused_when_its_command_comes_again() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "5000").await;
    let refused = client.withdraw(&account, "5001").await;
    assert_eq!((refused.status, refused.text("status")), (200, "FAILED"));
    assert_eq!(refused.text("reason"), "INSUFFICIENT_FUNDS");
    assert!(refused.body["balanceAfter"].is_null());

    client.deposit(&account, "5000").await;
    let jetstream = broker::connect(stack).await;
    let command = broker::command_of(&refused).to_string();
    let mut results = broker::results(&jetstream).await;
    let id = format!("{}.again", refused.text("recordId"));
    broker::publish(&jetstream, "transaction.withdrawal", &id, command).await;
    // A duplicate is not only acked: its stored outcome is published again.
    let result = broker::result_of(&mut results, refused.text("recordId")).await;
    assert_eq!(
        (&result["status"], &result["transactionId"]),
        (&"FAILED".into(), &stack.transaction_number(refused.text("recordId")).await.into())
    );
    let record = client.record(refused.text("recordId")).await;
    assert_eq!(record.body, refused.body);
    invariants::holds(&stack.ledger().await, "accounts", &account, 10_000).await.unwrap();
    let rows = sqlx::query("SELECT status FROM transactions WHERE record_id = $1")
        .bind(Uuid::parse_str(refused.text("recordId")).unwrap())
        .fetch_all(&stack.ledger().await)
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["FAILED"]);
}

#[tokio::test]
async fn a_withdrawal_from_an_account_that_never_held_anything_is_refused() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("EUR").await;
    let refused = client.withdraw(&account, "0.01").await;
    assert_eq!(refused.text("reason"), "INSUFFICIENT_FUNDS");
    assert_eq!(client.account(&account).await.body["accountSeq"], Value::from(0));
}

#[tokio::test]
async fn a_deposit_above_the_balance_limit_is_refused_by_the_ledger() {
    let client = Client::teller(Stack::shared().await);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "999999999999999999").await;
    let refused = client.deposit(&account, "1").await;
    assert_eq!(refused.text("status"), "FAILED");
    assert_eq!(refused.text("reason"), "BALANCE_LIMIT_EXCEEDED");
}
