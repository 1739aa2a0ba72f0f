//! Duplicate commands are credited once. The failure that led to Passbook was the
//! opposite: two replicas credited 20,000 for one deposit of 10,000.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, push},
    stream,
};
use futures::{StreamExt, future::join_all};
use runtime::postgres::PgPool;
use rust_decimal::Decimal;
use serde_json::json;
use tests::{Client, Stack, broker, client::new_key, eventually, invariants};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_whose_command_is_published_five_more_times_is_credited_once() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let accepted = client.movement("deposits", &account, "10000", &new_key(), None).await;
    let record = accepted.text("recordId");
    let command = broker::command_of(&accepted).to_string();
    let jetstream = broker::connect(stack).await;
    let (command, jetstream) = (&command, &jetstream);
    join_all((1..=5).map(|copy| async move {
        let id = format!("{record}.copy-{copy}");
        broker::publish(jetstream, "transaction.deposit", &id, command.as_str()).await;
    }))
    .await;

    let settled = client.settled(record).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "10000"));
    // Every copy is acked.
    broker::stream_holds(jetstream, "TRANSACTION", 0, Duration::from_secs(10)).await;
    let ledger = stack.ledger().await;
    assert_eq!(invariants::holds(&ledger, "accounts", &account, 10_000).await, Ok(()));
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM transactions WHERE record_id = $1")
        .bind(Uuid::parse_str(record).unwrap())
        .fetch_one(&ledger)
        .await
        .unwrap();
    assert_eq!(rows, 1);
    assert_eq!(client.record(record).await.body, settled.body);
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
    let transaction = stack.transaction_number(settled.text("recordId")).await;
    assert_eq!(result["transactionId"], transaction);
    invariants::holds(&stack.ledger().await, "accounts", &account, 100).await.unwrap();
}

/// A replica with the old mistakes: a push consumer of its own instead of a durable one shared by
/// both replicas, and no check whether the deposit was applied before.
async fn naive_replica(jetstream: jetstream::Context, database: PgPool) {
    let config = push::Config {
        deliver_subject: format!("naive.to.{}", Uuid::now_v7()),
        ack_policy: AckPolicy::Explicit,
        ..Default::default()
    };
    let stream = jetstream.get_stream("NAIVE").await.unwrap();
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    while let Some(Ok(message)) = messages.next().await {
        let deposit: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        sqlx::query("UPDATE naive_accounts SET balance = balance + $2 WHERE account_id = $1")
            .bind(Uuid::parse_str(deposit["accountId"].as_str().unwrap()).unwrap())
            .bind(tests::decimal(&deposit["amount"]))
            .execute(&database)
            .await
            .unwrap();
        message.ack().await.unwrap();
    }
}

#[tokio::test]
async fn the_same_check_finds_twenty_thousand_when_two_naive_replicas_process_one_deposit() {
    let stack = Stack::shared().await;
    let jetstream = broker::connect(stack).await;
    let config = stream::Config {
        name: "NAIVE".to_owned(),
        subjects: vec!["naive.deposit".to_owned()],
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    let database = stack.ledger().await;
    let account = new_key();
    sqlx::query("CREATE TABLE naive_accounts (account_id uuid PRIMARY KEY, balance numeric)")
        .execute(&database)
        .await
        .unwrap();
    sqlx::query("INSERT INTO naive_accounts VALUES ($1, 0)")
        .bind(Uuid::parse_str(&account).unwrap())
        .execute(&database)
        .await
        .unwrap();
    let replicas = [0, 1].map(|_| tokio::spawn(naive_replica(jetstream.clone(), database.clone())));
    let deposit = json!({ "accountId": account, "amount": "10000" }).to_string();
    broker::publish(&jetstream, "naive.deposit", "one deposit", deposit).await;

    let twice = Err(Decimal::from(20_000));
    eventually("both replicas have credited the deposit", Duration::from_secs(10), || async {
        (invariants::holds(&database, "naive_accounts", &account, 10_000).await == twice)
            .then_some(())
    })
    .await;
    for replica in replicas {
        replica.abort();
    }
    jetstream.delete_stream("NAIVE").await.unwrap();
    sqlx::query("DROP TABLE naive_accounts").execute(&database).await.unwrap();
}
