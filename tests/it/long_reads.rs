//! Readers with a long snapshot, beside a migration and beside `passbook verify`.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tests::{Client, Stack, Standby, eventually, invariants, process, stack::initialized_folder};

const MONEY: [&str; 6] = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];
/// The migration that drops the foreign key of the records.
const MIGRATION: i64 = 20_260_301_000_001;

async fn migrate(url: &str, limit: &str) -> Output {
    process::run(&["migrate", "--account-database-url", url, "--lock-limit", limit]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deposits_go_on_while_a_migration_waits_for_a_long_snapshot() {
    let stack = Stack::start_in(&initialized_folder("migration-waits").await, &MONEY).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let url = stack.file().databases.account;
    let mut accounts = PgConnection::connect(&url).await.unwrap();
    // The state before the migration, which needs an exclusive lock on both tables.
    sqlx::raw_sql(
        "ALTER TABLE transaction_records
             ADD CONSTRAINT transaction_records_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts;
         DELETE FROM _sqlx_migrations WHERE version = 20260301000001",
    )
    .execute(&mut accounts)
    .await
    .unwrap();
    // As pg_dump reads.
    let mut reader = PgConnection::connect(&format!("{url}&application_name=dump")).await.unwrap();
    sqlx::raw_sql(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT count(*) FROM transaction_records",
    )
    .execute(&mut reader)
    .await
    .unwrap();
    let begun = Instant::now();
    let deposits = async {
        let (mut longest, mut count) = (Duration::ZERO, 0_u64);
        while begun.elapsed() < Duration::from_secs(8) {
            let sent = Instant::now();
            let deposit = client.deposit(&account, "1").await;
            assert_eq!((deposit.status, deposit.text("status")), (200, "SUCCESS"), "{deposit:?}");
            longest = longest.max(sent.elapsed());
            count += 1;
        }
        (longest, count)
    };
    let ((longest, count), gave_up) = tokio::join!(deposits, migrate(&url, "9s"));
    println!("{count} deposits beside a waiting migration, the longest took {longest:.1?}");
    // An attempt waits for a second. A busy machine takes longer.
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let message = String::from_utf8_lossy(&gave_up.stderr);
    assert_eq!(gave_up.status.code(), Some(2), "{message}");
    for part in [
        &MIGRATION.to_string(),
        "AccessExclusiveLock on transaction_records",
        "(dump, user passbook, its transaction is open for 00:00:",
        "requests go on",
        "pg_terminate_backend",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let ending = async {
        eventually("the migration waits again", Duration::from_secs(20), || async {
            let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";
            let mut accounts = PgConnection::connect(&url).await.unwrap();
            let waits: bool = sqlx::query_scalar(waiting).fetch_one(&mut accounts).await.unwrap();
            waits.then_some(())
        })
        .await;
        reader.close().await.unwrap();
    };
    let (migrated, ()) = tokio::join!(migrate(&url, "1m"), ending);
    assert!(migrated.status.success(), "{migrated:?}");
    let applied = "SELECT EXISTS (SELECT FROM _sqlx_migrations WHERE version = $1)";
    let applied: bool =
        sqlx::query_scalar(applied).bind(MIGRATION).fetch_one(&mut accounts).await.unwrap();
    assert!(applied);
    invariants::holds(&stack.ledger().await, "accounts", &account, count).await.unwrap();
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_reads_a_replica_once_it_has_all_commits_of_its_primary() {
    let stack = Stack::start_in(&initialized_folder("verify-replica").await, &MONEY).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "1").await;
    let standby = Standby::start(&stack).await;
    let databases = stack.file().databases;
    let replicas = [&databases.account, &databases.transaction].map(|url| standby.url_of(url));
    let mut replica = PgConnection::connect(&replicas[0]).await.unwrap();
    sqlx::query("SELECT pg_wal_replay_pause()").execute(&mut replica).await.unwrap();
    let paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
    eventually("the replay is paused", Duration::from_secs(20), || async {
        let mut replica = PgConnection::connect(&replicas[0]).await.unwrap();
        let paused: bool = sqlx::query_scalar(paused).fetch_one(&mut replica).await.unwrap();
        paused.then_some(())
    })
    .await;
    let deposit = client.deposit(&account, "1").await;
    assert_eq!(deposit.text("status"), "SUCCESS");
    // The records are those of now. A replica of the ledger without the last ones would give
    // findings.
    let arguments = [
        "verify",
        "--no-streams",
        "--account-database-url",
        &databases.account,
        "--transaction-database-url",
        &databases.transaction,
        "--transaction-replica-url",
        &replicas[1],
        "-o",
        "json",
    ];
    let verify = process::run(&arguments);
    let resume = async {
        let asks = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                                   AND query LIKE '%pg_last_wal_replay_lsn()%')";
        eventually("verify waits for the replica", Duration::from_secs(20), || async {
            let mut replica = PgConnection::connect(&replicas[0]).await.unwrap();
            let asks: bool = sqlx::query_scalar(asks).fetch_one(&mut replica).await.unwrap();
            asks.then_some(())
        })
        .await;
        sqlx::query("SELECT pg_wal_replay_resume()").execute(&mut replica).await.unwrap();
    };
    let (output, ()) = tokio::join!(verify, resume);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["agreed"]["compared"], 2, "{report:#}");

    let arguments = ["--account-replica-url", &replicas[0], "--transaction-replica-url"];
    let primary = databases.transaction.as_str();
    let urls =
        ["--account-database-url", &databases.account, "--transaction-database-url", primary];
    for (ledger, code) in [(replicas[1].as_str(), 0), (primary, 2)] {
        let verify = [&["verify", "--no-streams"], &urls[..], &arguments[..], &[ledger]].concat();
        let output = process::run(&verify).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}
