//! Rows that a replica of the release before writes during an upgrade get their events.

use serde_json::json;
use sqlx::{Connection, PgConnection};
use tests::{Client, Stack};

use super::{all, assert_gapless, text};

/// As the release before settles: with the rights that its role had.
const SETTLE: &str = "WITH settled AS (
         UPDATE transaction_records AS r
         SET status = CASE WHEN seq IS NULL THEN 'FAILED' ELSE 'SUCCESS' END, transaction_id = 7,
             reason = CASE WHEN seq IS NULL THEN 'INSUFFICIENT_FUNDS' END,
             balance_after = 100 * seq, account_seq = seq, updated_at = now()
         FROM (VALUES ($1::uuid, 1), ($2::uuid, NULL), ($3::uuid, 2)) AS result (id, seq)
         WHERE r.id = result.id AND r.status = 'PENDING'
         RETURNING r.account_id, r.account_seq, r.balance_after
     )
     UPDATE accounts SET balance = newest.balance_after, account_seq = newest.account_seq,
         updated_at = now()
     FROM (SELECT DISTINCT ON (account_id) account_id, account_seq, balance_after FROM settled
           WHERE account_seq IS NOT NULL ORDER BY account_id, account_seq DESC) AS newest
     WHERE accounts.account_id = newest.account_id AND accounts.account_seq < newest.account_seq";

#[tokio::test]
async fn rows_of_the_release_before_have_events() {
    let stack = Stack::start("events-older-release").await;
    let client = Client::teller(&stack);
    let mut older = PgConnection::connect(&stack.file().databases.account).await.unwrap();
    sqlx::raw_sql(
        "REVOKE UPDATE (event_seq) ON accounts FROM account_service;
         REVOKE INSERT (event_seq) ON accounts FROM account_service;
         REVOKE INSERT (account_id, sequence, type, record_id, created_at) ON events
             FROM account_service;
         SET ROLE account_service",
    )
    .execute(&mut older)
    .await
    .unwrap();
    let account = tests::client::new_key();
    sqlx::query(
        "INSERT INTO accounts (account_id, owner_id, currency) VALUES ($1::uuid, 'ann', 'KRW')",
    )
    .bind(&account)
    .execute(&mut older)
    .await
    .unwrap();
    let records: Vec<_> = (0..3).map(|_| tests::client::new_key()).collect();
    for record in &records {
        sqlx::query(
            "INSERT INTO transaction_records (id, account_id, idempotency_key, request_hash, user_id,
                 type, amount, currency)
             VALUES ($1::uuid, $2::uuid, $1, '', 'ann', 'DEPOSIT', 100, 'KRW')",
        )
        .bind(record)
        .bind(&account)
        .execute(&mut older)
        .await
        .unwrap();
    }
    let settled = sqlx::query(SETTLE).bind(&records[0]).bind(&records[1]).bind(&records[2]);
    assert_eq!(settled.execute(&mut older).await.unwrap().rows_affected(), 1);
    let (events, _) = all(&client, "", None, 20).await;
    assert_gapless(&events);
    let of_record = |at: usize, kind: &str| (kind.to_owned(), json!(records[at]));
    let mut found: Vec<_> = events
        .iter()
        .map(|event| (text(event, "type").to_owned(), event["data"]["recordId"].clone()))
        .collect();
    assert_eq!(found.remove(0), ("account.created".to_owned(), json!(null)));
    found.sort_by_key(|(_, record)| record.to_string());
    let succeeded = "record.succeeded";
    assert_eq!(
        found,
        [of_record(0, succeeded), of_record(1, "record.failed"), of_record(2, succeeded)]
    );
    assert_eq!(client.account(&account).await.text("balance"), "200");
}
