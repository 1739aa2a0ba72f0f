//! The redrive: a PENDING record is its own outbox, and settles even if its
//! command or its result is lost.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use runtime::postgres::PgPool;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tests::{
    Client, PendingDeposits, Stack, broker, client::new_key, eventually, invariants,
    process::signal, scale,
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
async fn a_record_whose_id_is_a_day_old_or_a_day_ahead_is_found() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    // The first is the id of a commit delayed by a day: the redrive's window is far above it.
    let day = 86_400_000_u128 << 80;
    let now = Uuid::parse_str(&new_key()).unwrap().as_u128();
    for id in [now - day, now + day] {
        let record = Uuid::from_u128(id).to_string();
        unsent_deposit_of_250(stack, &account, &record).await;
        assert_eq!(client.settled(&record).await.text("status"), "SUCCESS");
    }
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

/// The rows of records that PostgreSQL has read so far. Sessions report them with a delay of a
/// second at most.
async fn rows_read(accounts: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_user_tables
         WHERE relname = 'transaction_records'",
    )
    .fetch_one(accounts)
    .await
    .unwrap()
}

/// Settled records of the last thirty days, in transactions that a pool's limit allows.
async fn fill_history(accounts: &PgPool, records: i64) {
    const AT_ONCE: i64 = 100_000;
    for first in (1..=records).step_by(AT_ONCE.try_into().unwrap()) {
        let last = records.min(first + AT_ONCE - 1);
        let fill = format!(
            "INSERT INTO transaction_records (id, account_id, idempotency_key, request_hash, user_id,
                 type, amount, currency, status, transaction_id, balance_after, created_at, updated_at)
             SELECT id, md5((number % 10000)::text)::uuid, id::text, '', 'teller', 'DEPOSIT', 100,
                 'KRW', 'SUCCESS', number, 100, at, at
             FROM (
                 SELECT number, at,
                     (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000'
                      || 'a' || lpad(to_hex(number), 15, '0'))::uuid AS id
                 FROM (SELECT number,
                           now() - interval '30 days' * (1 - number / ({records}.0 + 1)) AS at
                       FROM generate_series({first}, {last}) AS number) AS numbered
             ) AS history"
        );
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(accounts).await.unwrap();
    }
}

#[tokio::test]
async fn after_a_rolling_restart_recent_records_are_redriven_soon_whatever_the_history() {
    let history = scale::size(5_000_000, 100_000);
    let stack = Stack::start("redrive-after-history").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let accounts = stack.accounts().await;
    eventually("the redrive has read the empty history", Duration::from_secs(20), || async {
        let read: bool = sqlx::query_scalar(
            "SELECT floor > '00000000-0000-0000-0000-000000000000'
                 AND left_ceiling < 'ffffffff-ffff-ffff-ffff-ffffffffffff' FROM redrive_window",
        )
        .fetch_one(&accounts)
        .await
        .unwrap();
        read.then_some(())
    })
    .await;
    fill_history(&accounts, history).await;
    // Passbook itself never stores such a currency: the record stays PENDING for good.
    let stuck = Uuid::from_u128(1 << 80).to_string();
    let deposits = PendingDeposits { currency: "ODD", ..PendingDeposits::of(&account) };
    deposits.store(&accounts, [(stuck.as_str(), 250)]).await;
    let before = rows_read(&accounts).await;
    for replica in ["account-service-0", "account-service-1"] {
        let pid = stack.pid(replica);
        signal(pid, Signal::SIGTERM);
        stack.restarted(replica, pid, Duration::from_secs(30)).await;
        stack.replica_ready(replica).await;
    }
    let begun = Instant::now();
    let record = new_key();
    unsent_deposit_of_250(&stack, &account, &record).await;
    assert_eq!(client.settled(&record).await.text("status"), "SUCCESS");
    let settled_after = begun.elapsed();
    // Some more rounds, with the stuck record in each.
    eventually("the stuck record is redriven again", Duration::from_secs(60), || async {
        let redrives: i32 =
            sqlx::query_scalar("SELECT redrives FROM transaction_records WHERE id = $1")
                .bind(Uuid::parse_str(&stuck).unwrap())
                .fetch_one(&accounts)
                .await
                .unwrap();
        (redrives >= 3).then_some(())
    })
    .await;
    let read = rows_read(&accounts).await - before;
    println!("{history} settled records: settled after {settled_after:.1?}, {read} rows read");
    assert!(settled_after < Duration::from_secs(15), "{settled_after:?}");
    assert!(read < 1000, "{read} rows read");
}
