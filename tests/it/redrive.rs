//! A record is the outbox: whatever became of its command or its result.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, broker, checks, client::new_key, eventually, stack::signal};
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
async fn an_invalid_record_delays_no_other() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let (odd, good) = (new_key(), new_key());
    // Nobody's but a person's hand writes such a currency.
    sqlx::query(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         VALUES ($1, $2, 'odd', '', 'teller', 'DEPOSIT', 250, 'ODD')",
    )
    .bind(Uuid::parse_str(&odd).unwrap())
    .bind(Uuid::parse_str(&account).unwrap())
    .execute(&stack.accounts().await)
    .await
    .unwrap();
    unsent_deposit_of_250(stack, &account, &good).await;
    assert_eq!(client.settled(&good).await.text("status"), "SUCCESS");
    // Both were claimed at once: neither has to wait for another turn.
    let turns: i32 = sqlx::query_scalar("SELECT redrives FROM transaction_records WHERE id = $1")
        .bind(Uuid::parse_str(&good).unwrap())
        .fetch_one(&stack.accounts().await)
        .await
        .unwrap();
    assert_eq!(turns, 1);
    // It would be PENDING for ever, in the sight of the tests beside this one.
    sqlx::query("DELETE FROM transaction_records WHERE id = $1")
        .bind(Uuid::parse_str(&odd).unwrap())
        .execute(&stack.accounts().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_record_that_appears_below_the_low_water_mark_is_found() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    // As old as a commit that was held up for a day: the redrive has long been past it.
    let day = 86_400_000_u128 << 80;
    let now = Uuid::parse_str(&new_key()).unwrap().as_u128();
    let record = Uuid::from_u128(now - day).to_string();
    unsent_deposit_of_250(stack, &account, &record).await;
    assert_eq!(client.settled(&record).await.text("status"), "SUCCESS");
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

#[tokio::test]
async fn a_lost_command_is_redriven_within_the_duplicate_window() {
    let running = Stack::start("lost-command").await;
    let client = Client::teller(&running);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&running).await;
    let workers = ["transaction-service-0", "transaction-service-1"].map(|it| running.pid(it));
    for pid in workers {
        signal(pid, Signal::SIGSTOP);
    }
    eventually("nobody waits for commands", Duration::from_secs(10), || async {
        let found = jetstream.get_consumer_from_stream("deposit-consumer", "TRANSACTION").await;
        let consumer: Consumer<pull::Config> = found.unwrap();
        (consumer.cached_info().num_waiting == 0).then_some(())
    })
    .await;
    let accepted = client.movement("deposits", &account, "250", &new_key(), None).await;
    let commands = jetstream.get_stream("TRANSACTION").await.unwrap();
    eventually("its command is in the stream", Duration::from_secs(10), || async {
        (broker::stream(&jetstream, "TRANSACTION").await.state.messages == 1).then_some(())
    })
    .await;
    // The message is lost; the stream still knows its id, for two minutes.
    commands.purge().await.unwrap();
    for pid in workers {
        signal(pid, Signal::SIGCONT);
    }
    let settled = client.settled(accepted.text("recordId")).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "250"));
}

#[tokio::test]
async fn records_settle_though_the_broker_loses_everything_it_holds() {
    let running = Stack::start("wiped-broker").await;
    let client = Client::teller(&running);
    let account = client.open_account("KRW").await;
    let workers = ["transaction-service-0", "transaction-service-1"].map(|it| running.pid(it));
    for pid in workers {
        signal(pid, Signal::SIGSTOP);
    }
    let mut records = Vec::new();
    for _ in 0..50 {
        let accepted = client.movement("deposits", &account, "10", &new_key(), None).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        records.push(accepted.text("recordId").to_owned());
    }
    let before = running.pid("nats");
    signal(before, Signal::SIGKILL);
    // It is started again after a second; by then there is nothing left of its streams.
    std::fs::remove_dir_all(running.dir.join("nats")).unwrap();
    eventually("the broker is back", Duration::from_secs(10), || async {
        (running.pid("nats") != before).then_some(())
    })
    .await;
    for pid in workers {
        signal(pid, Signal::SIGCONT);
    }
    eventually("all are settled", Duration::from_secs(60), || async {
        (client.account(&account).await.text("balance") == "500").then_some(())
    })
    .await;
    for record in records {
        assert_eq!(client.record(&record).await.text("status"), "SUCCESS");
    }
    checks::assert_verified(&running).await;
}
