//! The redrive: a PENDING record is its own outbox, and settles even if its
//! command or its result is lost.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tests::{
    Client, PendingDeposits, Stack, broker, client::new_key, eventually, invariants,
    process::signal,
};
use uuid::Uuid;

/// Stores a PENDING deposit of 250.
async fn unsent_deposit_of_250(stack: &Stack, account: &str, record: &str) {
    PendingDeposits::of(account).store(&stack.accounts().await, [(record, 250)]).await;
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
    let (invalid, valid) = (new_key(), new_key());
    // Passbook itself never stores such a currency.
    let deposits = PendingDeposits { currency: "ODD", ..PendingDeposits::of(&account) };
    deposits.store(&stack.accounts().await, [(invalid.as_str(), 250)]).await;
    unsent_deposit_of_250(stack, &account, &valid).await;
    assert_eq!(client.settled(&valid).await.text("status"), "SUCCESS");
    // Both records were claimed in one round: the valid one did not have to wait for a second.
    let redrives: i32 =
        sqlx::query_scalar("SELECT redrives FROM transaction_records WHERE id = $1")
            .bind(Uuid::parse_str(&valid).unwrap())
            .fetch_one(&stack.accounts().await)
            .await
            .unwrap();
    assert_eq!(redrives, 1);
    // Otherwise concurrent tests would see a record PENDING for ever.
    sqlx::query("DELETE FROM transaction_records WHERE id = $1")
        .bind(Uuid::parse_str(&invalid).unwrap())
        .execute(&stack.accounts().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_record_that_appears_below_the_low_water_mark_is_found() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    // The id of a commit delayed by a day: the redrive's low-water mark is far above it.
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
    // The ledger after a crash of the transaction-service between commit and publish.
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
    let stack = Stack::start("lost-command").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    let paused = stack.pause_workers();
    broker::no_open_pulls(&jetstream, "TRANSACTION", "deposit-consumer").await;
    let accepted = client.movement("deposits", &account, "250", &new_key(), None).await;
    let commands = jetstream.get_stream("TRANSACTION").await.unwrap();
    broker::stream_holds(&jetstream, "TRANSACTION", 1, Duration::from_secs(10)).await;
    // The message is lost. The stream remembers its id for two minutes.
    commands.purge().await.unwrap();
    drop(paused);
    let settled = client.settled(accepted.text("recordId")).await;
    assert_eq!((settled.text("status"), settled.text("balanceAfter")), ("SUCCESS", "250"));
}

#[tokio::test]
async fn records_settle_though_the_broker_loses_everything_it_holds() {
    let stack = Stack::start("wiped-broker").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let paused = stack.pause_workers();
    let mut records = Vec::new();
    for _ in 0..50 {
        let accepted = client.movement("deposits", &account, "10", &new_key(), None).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        records.push(accepted.text("recordId").to_owned());
    }
    let before = stack.pid("nats");
    signal(before, Signal::SIGKILL);
    // The broker is started again after a second. By then its streams are gone.
    std::fs::remove_dir_all(stack.dir.join("nats")).unwrap();
    stack.restarted("nats", before, Duration::from_secs(10)).await;
    drop(paused);
    eventually("all records are settled", Duration::from_secs(60), || async {
        (client.account(&account).await.text("balance") == "500").then_some(())
    })
    .await;
    for record in records {
        assert_eq!(client.record(&record).await.text("status"), "SUCCESS");
    }
    invariants::assert_verified(&stack).await;
}
