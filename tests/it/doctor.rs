//! `passbook doctor` finds planted defects and gives advice.

use std::time::Duration;

use devstack::Fault;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::{Client, Stack, broker, client::new_key, eventually, process, wait};

const INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Finding {
    area: String,
    check: String,
    detail: String,
}

#[derive(Debug)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Whether there is a finding of this check whose detail contains all these texts.
    fn has(&self, area: &str, check: &str, details: &[&str]) -> bool {
        self.0.iter().any(|finding| {
            finding.area == area
                && finding.check == check
                && details.iter().all(|text| finding.detail.contains(text))
        })
    }

    fn has_any_in(&self, area: &str) -> bool {
        self.0.iter().any(|finding| finding.area == area)
    }
}

/// Runs `passbook doctor`. Gives its exit code and findings.
async fn doctor(arguments: &[&str]) -> (i32, Findings) {
    let output = process::run(&[&["doctor", "-o", "json"], arguments].concat()).await;
    let checks: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
    let findings = checks.iter().filter(|check| check["state"] == "finding").map(|check| {
        assert!(text(check, "advice").len() > 20, "no advice: {check}");
        Finding {
            area: text(check, "area"),
            check: text(check, "check"),
            detail: text(check, "detail"),
        }
    });
    (output.status.code().unwrap(), Findings(findings.collect()))
}

#[tokio::test]
async fn every_planted_defect_is_found_with_advice() {
    let stack = Stack::start("doctor").await;
    let dir = ["--dir", stack.dir.to_str().unwrap()];
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "100").await.text("status"), "SUCCESS");
    let (code, healthy) = doctor(&dir).await;
    assert_eq!((code, healthy.0.len()), (0, 0), "{healthy:?}");

    // One field of a stream and one of a consumer drift, and one consumer is missing. The paused
    // service can't repair them.
    let jetstream = broker::connect(&stack).await;
    let _paused = stack.pause_workers();
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
    // A PENDING record, its command in the backlog, and a dead letter.
    let pending = client.movement("deposits", &account, "1", &new_key(), None).await;
    let accounts = stack.accounts().await;
    let ledger = stack.ledger().await;
    let older = format!(
        "UPDATE transaction_records SET created_at = created_at - interval '5 minutes'
         WHERE id = '{}'",
        pending.text("recordId")
    );
    sqlx::raw_sql(AssertSqlSafe(older)).execute(&accounts).await.unwrap();
    broker::publish(&jetstream, "dead-letter.TRANSACTION.deposit-consumer", "1", "?").await;
    // A role may change the settings of its own sessions.
    let set = "ALTER ROLE account_service SET synchronous_commit = off";
    sqlx::raw_sql(set).execute(&accounts).await.unwrap();
    // A missing migration, an unknown migration, and a lock held for long.
    let newest = "SELECT max(version) FROM _sqlx_migrations";
    let newest: i64 = sqlx::query_scalar(newest).fetch_one(&ledger).await.unwrap();
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
        // A connection of the pool gives up after a while.
        let url = stack.file().databases.transaction.clone();
        async move {
            let mut waiter = PgConnection::connect(&url).await?;
            sqlx::raw_sql("BEGIN; LOCK TABLE held; COMMIT").execute(&mut waiter).await
        }
    });

    let newest = newest.to_string();
    let expected: [(&str, &str, &[&str]); 12] = [
        ("NATS", "TRANSACTION_RESULT", &["max_age", "3600s", "604800s"]),
        ("NATS", "withdrawal-consumer", &["missing"]),
        ("NATS", "account-result-consumer", &["max_deliver", "9", "3"]),
        ("NATS", "deposit-consumer", &["pull"]),
        ("NATS", "open dead letters", &["1"]),
        ("account database", "PENDING records", &["5m"]),
        ("account database", "durability", &["synchronous_commit=off", "account_service"]),
        ("transaction database", "migrations", &[&newest]),
        ("transaction database", "migrations", &["20990101000000"]),
        ("transaction database", "locks", &[]),
        ("transaction-service-0", "ready", &[]),
        ("transaction-service-1", "ready", &[]),
    ];
    wait::poll("all defects are found", Duration::from_secs(30), INTERVAL, || async {
        let (code, found) = doctor(&dir).await;
        let missing: Vec<_> = expected
            .iter()
            .filter(|(area, check, details)| !found.has(area, check, details))
            .collect();
        if code == 1 && missing.is_empty() {
            return Ok(());
        }
        Err(format!("exit code {code}, missing: {missing:?}\n{found:?}"))
    })
    .await;
    holder.rollback().await.unwrap();
    waiter.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_unreachable_server_does_not_hide_the_other_findings() {
    let stack = Stack::shared().await;
    let file = stack.file();
    let unreachable = "postgres://nobody:secret@127.0.0.1:1/none";
    let service = file.processes.iter().find_map(|process| process.admin.clone()).unwrap();
    let (code, found) = doctor(&[
        "--account-database-url",
        unreachable,
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
    for (area, check) in
        [("account database", "reachable"), ("NATS", "reachable"), ("http://127.0.0.1:1", "ready")]
    {
        assert!(found.has(area, check, &["refused"]), "{area}: {found:?}");
    }
    assert!(!found.has_any_in("transaction database"), "{found:?}");
    assert!(!found.has_any_in(&service), "{found:?}");
    assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    let no_stack = process::run(&["doctor", "--dir", "/nonexistent"]).await;
    assert_eq!(no_stack.status.code(), Some(2), "{no_stack:?}");
}

#[tokio::test]
async fn an_active_injected_fault_is_reported_with_the_command_that_ends_it() {
    let stack = Stack::start_with_faults("doctor-faults").await;
    let dir = ["--dir", stack.dir.to_str().unwrap()];
    stack.fault("transaction-service-0", Fault::Hold).await;
    stack.fault("account-service-1", Fault::Freeze).await;
    stack.fault("transaction-service-1/postgres", Fault::Refuse).await;
    let (code, found) = doctor(&dir).await;
    assert_eq!(code, 1);
    for (name, state) in [
        ("transaction-service-0", "held"),
        ("account-service-1", "frozen"),
        ("transaction-service-1/postgres", "refused"),
    ] {
        assert!(found.has("faults", name, &[state]), "{name}: {found:?}");
    }
    // A held service has no process, and is still reported as not ready.
    assert!(found.has("transaction-service-0", "ready", &[]), "{found:?}");
    for fault in [Fault::Release, Fault::Thaw, Fault::Pass] {
        stack.fault("*", fault).await;
    }
    eventually("there is no finding", Duration::from_secs(30), || async {
        (doctor(&dir).await.0 == 0).then_some(())
    })
    .await;
}
