//! `passbook doctor` finds what is broken on purpose, and says what to do.

use std::time::Duration;

use devstack::Fault;
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tests::{
    Client, Stack, broker,
    client::new_key,
    eventually,
    stack::{self, folder, signal},
};

/// What it found: where, what, and the detail.
#[derive(Debug)]
struct Findings(Vec<(String, String, String)>);

impl Findings {
    fn has(&self, area: &str, check: &str, detail: &str) -> bool {
        self.0.iter().any(|it| it.0 == area && it.1 == check && it.2.contains(detail))
    }
}

/// Processes that stand still, and go on in any case: else they could not be
/// stopped in time.
struct Paused([u32; 2]);

impl Paused {
    fn new(pids: [u32; 2]) -> Self {
        pids.iter().for_each(|pid| signal(*pid, Signal::SIGSTOP));
        Self(pids)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, Signal::SIGCONT));
    }
}

async fn doctor(arguments: &[&str]) -> (i32, Findings) {
    let output = stack::run(&[&["doctor", "-o", "json"], arguments].concat()).await;
    let checks: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
    let found = checks.iter().filter(|it| it["state"] == "finding").map(|it| {
        assert!(text(it, "advice").len() > 20, "no advice: {it}");
        (text(it, "area"), text(it, "check"), text(it, "detail"))
    });
    (output.status.code().unwrap(), Findings(found.collect()))
}

#[tokio::test]
async fn every_planted_defect_is_found_with_advice() {
    let running = Stack::start("doctor").await;
    let dir = ["--dir", running.dir.to_str().unwrap()];
    let client = Client::teller(&running);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "100").await.text("status"), "SUCCESS");
    let (code, healthy) = doctor(&dir).await;
    assert_eq!((code, healthy.0.len()), (0, 0), "{healthy:?}");

    // Drift in one field, of a stream and of a consumer.
    let jetstream = broker::connect(&running).await;
    let workers = ["transaction-service-0", "transaction-service-1"].map(|it| running.pid(it));
    let _paused = Paused::new(workers);
    // Nobody sets this one right now: its keeper is stopped.
    let mut config = broker::stream(&jetstream, "TRANSACTION_RESULT").await.config;
    config.max_age = Duration::from_secs(3600);
    jetstream.update_stream(&config).await.unwrap();
    let commands = jetstream.get_stream("TRANSACTION").await.unwrap();
    commands.delete_consumer("withdrawal-consumer").await.unwrap();
    let results = jetstream.get_stream("TRANSACTION_RESULT").await.unwrap();
    let info = results.consumer_info("account-result-consumer").await.unwrap();
    let changed = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("account-result-consumer".to_owned()),
        ack_policy: info.config.ack_policy,
        filter_subject: info.config.filter_subject,
        max_ack_pending: info.config.max_ack_pending,
        max_deliver: 9,
        ..Default::default()
    };
    jetstream.create_consumer_on_stream(changed, "TRANSACTION_RESULT").await.unwrap();
    // Stuck: a record that nobody decides, its command, and a dead letter.
    let pending = client.movement("deposits", &account, "1", &new_key(), None).await;
    let accounts = running.accounts().await;
    let ledger = running.ledger().await;
    let older = format!(
        "UPDATE transaction_records SET created_at = created_at - interval '5 minutes'
         WHERE id = '{}'",
        pending.text("recordId")
    );
    sqlx::raw_sql(AssertSqlSafe(older)).execute(&accounts).await.unwrap();
    broker::publish(&jetstream, "dead-letter.TRANSACTION.deposit-consumer", "1", "?").await;
    // A migration that is gone, one that is unknown, and a lock that somebody sits on.
    sqlx::raw_sql(
        "UPDATE _sqlx_migrations SET version = 20990101000000
         WHERE version = (SELECT max(version) FROM _sqlx_migrations);
         CREATE TABLE held ()",
    )
    .execute(&ledger)
    .await
    .unwrap();
    let mut holder = ledger.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE held").execute(&mut *holder).await.unwrap();
    let waiter = tokio::spawn({
        let ledger = ledger.clone();
        async move { sqlx::raw_sql("BEGIN; LOCK TABLE held; COMMIT").execute(&ledger).await }
    });

    let wanted = [
        ("NATS", "TRANSACTION_RESULT", "max_age is 3600s, and 604800s is expected"),
        ("NATS", "withdrawal-consumer", "missing"),
        ("NATS", "account-result-consumer", "max_deliver is 9, and 3 is expected"),
        ("NATS", "deposit-consumer", "messages wait and nobody pulls"),
        ("NATS", "open dead letters", "1 wait"),
        ("account database", "PENDING records", "for 5m"),
        ("transaction database", "migrations", "is not applied"),
        ("transaction database", "migrations", "unknown to this release"),
        ("transaction database", "locks", "waits for a lock"),
        ("transaction-service-0", "ready", ""),
        ("transaction-service-1", "ready", ""),
    ];
    eventually("everything is found", Duration::from_secs(30), || async {
        let (code, found) = doctor(&dir).await;
        let missing: Vec<_> = wanted.iter().filter(|it| !found.has(it.0, it.1, it.2)).collect();
        println!("missing: {missing:?}\n{found:?}");
        (code == 1 && missing.is_empty()).then_some(())
    })
    .await;
    holder.rollback().await.unwrap();
    waiter.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_unreachable_server_does_not_hide_the_other_findings() {
    let running = Stack::shared().await;
    let file = running.file();
    let away = "postgres://nobody:secret@127.0.0.1:1/none";
    let service = file.processes.iter().find_map(|it| it.admin.clone()).unwrap();
    let (code, found) = doctor(&[
        "--account-database-url",
        away,
        "--transaction-database-url",
        &file.databases.transaction,
        "--nats-url",
        "nats://127.0.0.1:1",
        "--service",
        &service,
        "--service",
        "http://127.0.0.1:1",
    ])
    .await;
    assert_eq!(code, 1, "{found:?}");
    assert!(found.has("account database", "reachable", "refused"), "{found:?}");
    assert!(found.has("NATS", "reachable", "refused"), "{found:?}");
    assert!(found.has("http://127.0.0.1:1", "ready", "refused"), "{found:?}");
    assert!(!found.0.iter().any(|it| it.0 == "transaction database"), "{found:?}");
    assert!(!found.0.iter().any(|it| it.0 == service), "{found:?}");
    assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    let nowhere = stack::run(&["doctor", "--dir", "/nonexistent"]).await;
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
}

#[tokio::test]
async fn an_active_injected_fault_is_reported_with_the_command_that_ends_it() {
    let dir = folder("doctor-faults");
    let running = Stack::start_in(&dir, &["--port", "0", "--faults"]).await;
    let at = ["--dir", running.dir.to_str().unwrap()];
    running.fault("transaction-service-0", Fault::Hold).await;
    running.fault("account-service-1", Fault::Freeze).await;
    running.fault("transaction-service-1/postgres", Fault::Refuse).await;
    let (code, found) = doctor(&at).await;
    assert_eq!(code, 1);
    for (name, state) in [
        ("transaction-service-0", "held"),
        ("account-service-1", "frozen"),
        ("transaction-service-1/postgres", "refused"),
    ] {
        assert!(found.has("faults", name, state), "{name}: {found:?}");
    }
    // What is held is no process any more, and is missed all the same.
    assert!(found.has("transaction-service-0", "ready", ""), "{found:?}");
    for fault in [Fault::Release, Fault::Thaw, Fault::Pass] {
        running.fault("*", fault).await;
    }
    eventually("nothing is found", Duration::from_secs(30), || async {
        (doctor(&at).await.0 == 0).then_some(())
    })
    .await;
}
