//! A record is the outbox: whatever became of its command.

use serde_json::Value;
use tests::{Client, Stack, client::new_key};
use uuid::Uuid;

#[tokio::test]
async fn a_record_whose_command_was_never_sent_is_settled_all_the_same() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    // What a crash between the commit and the publish leaves behind.
    let record = new_key();
    sqlx::query(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         VALUES ($1, $2, 'crashed', '', 'teller', 'DEPOSIT', 250, 'KRW')",
    )
    .bind(Uuid::parse_str(&record).unwrap())
    .bind(Uuid::parse_str(&account).unwrap())
    .execute(&stack.accounts().await)
    .await
    .unwrap();
    let settled = client.settled(&record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "250"));
    assert_eq!(client.account(&account).await.body["accountSeq"], Value::from(1));
}
