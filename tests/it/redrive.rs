//! A record is the outbox: whatever became of its command or its result.

use serde_json::Value;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, client::new_key};
use uuid::Uuid;

/// A PENDING record as a crash between its commit and its publish leaves it.
async fn unsent_deposit_of_250(stack: &Stack, account: &str, record: &str) {
    sqlx::query(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         VALUES ($1, $2, 'crashed', '', 'teller', 'DEPOSIT', 250, 'KRW')",
    )
    .bind(Uuid::parse_str(record).unwrap())
    .bind(Uuid::parse_str(account).unwrap())
    .execute(&stack.accounts().await)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_record_whose_command_was_never_sent_is_settled_all_the_same() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let record = new_key();
    unsent_deposit_of_250(stack, &account, &record).await;
    let settled = client.settled(&record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "250"));
    assert_eq!(client.account(&account).await.body["accountSeq"], Value::from(1));
}

#[tokio::test]
async fn a_record_whose_result_was_never_sent_is_settled_with_the_ledgers_outcome() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    // What a crash of the transaction-service between commit and publish leaves in the ledger.
    let record = new_key();
    let decided = format!(
        "INSERT INTO accounts (account_id, currency, balance, account_seq)
         VALUES ('{account}', 'KRW', 250, 1);
         INSERT INTO transactions
             (record_id, account_id, type, amount, currency, status, balance_after, account_seq)
         VALUES ('{record}', '{account}', 'DEPOSIT', 250, 'KRW', 'SUCCESS', 250, 1)"
    );
    sqlx::raw_sql(AssertSqlSafe(decided)).execute(&stack.ledger().await).await.unwrap();
    unsent_deposit_of_250(stack, &account, &record).await;
    let settled = client.settled(&record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "250"));
    assert_eq!(client.account(&account).await.text("balance"), "250");
}
