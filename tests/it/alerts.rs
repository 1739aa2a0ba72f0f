//! The alerts of `deploy/observability`, evaluated by a real Prometheus against
//! a real stack. Each alert fires once its condition is caused; no alert fires
//! in a healthy system.

mod monitored;
mod reports;
mod webhooks;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, SystemTime},
};

use async_nats::jetstream;
use devstack::Fault;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::{Client, broker, client::new_key, eventually, invariants, prometheus};
use time::OffsetDateTime;
use tokio::{process::Command, time::Instant};

use self::monitored::{
    INTERVAL, MEMORY_THRESHOLD, Monitored, SOON, observability, replace, short_rules,
};

const HEALTHY: Duration = Duration::from_secs(15);

#[tokio::test]
async fn each_alert_fires_on_its_condition_and_none_fires_in_a_healthy_system() {
    if !prometheus::installed() {
        return;
    }
    let mut monitored = Monitored::start().await;
    // Nothing has been pushed yet.
    monitored.fire(&["PassbookVerifyOverdue", "PassbookDoctorOverdue"]).await;
    let client = Client::teller(&monitored.stack);
    let account = client.open_account("KRW").await;
    nothing_fires_in_a_healthy_run(&monitored, &client, &account).await;

    findings_and_dead_letters(&mut monitored, &account).await;
    times_in_the_future(&mut monitored, &account).await;
    old_runs_old_versions_and_memory(&mut monitored).await;
    replicas_down(&mut monitored).await;
    broken_links(&mut monitored, &account).await;
    unsent_commands(&mut monitored, &client, &account).await;
    refused_messages_and_locked_rows(&mut monitored, &client, &account).await;
    pending_records(&mut monitored, &client, &account).await;
    reports::failed_reports(&mut monitored, &client, &account).await;
    reports::blocked_reports(&mut monitored, &client, &account).await;
    reports::orphaned_files(&mut monitored).await;
    webhooks::failing_receivers_and_late_deliveries(&mut monitored, &client).await;

    let all = monitored.prometheus.alerts().await.into_iter().map(|alert| alert.name);
    let untested: Vec<_> = all.filter(|alert| !monitored.fired.contains(alert)).collect();
    assert!(untested.is_empty(), "no step of this test causes {untested:?}");
    invariants::assert_verified(&monitored.stack).await;
    monitored.verify_and_doctor().await;
    every_metric_and_label_in_the_rules_exists(&monitored).await;
    monitored.until("all alerts have ended", BTreeSet::is_empty).await;
}

async fn nothing_fires_in_a_healthy_run(monitored: &Monitored, client: &Client, account: &str) {
    for (amount, withdrawn) in [("100", "SUCCESS"), ("20", "SUCCESS"), ("3", "FAILED")] {
        assert_eq!(client.deposit(account, amount).await.text("status"), "SUCCESS");
        let response = client.withdraw(account, "50").await;
        assert_eq!(response.text("status"), withdrawn, "{response:?}");
    }
    reports::a_report_succeeds(client, account).await;
    monitored.verify_and_doctor().await;
    eventually("Prometheus reaches all targets", SOON, || async {
        monitored.prometheus.is_healthy().await.then_some(())
    })
    .await;
    monitored.until("no alert fires", BTreeSet::is_empty).await;
    let begun = Instant::now();
    while begun.elapsed() < HEALTHY {
        client.deposit(account, "1").await;
        assert_eq!(monitored.firing().await, BTreeSet::new(), "{:?}", begun.elapsed());
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn findings_and_dead_letters(monitored: &mut Monitored, account: &str) {
    const ALERTS: [&str; 5] = [
        "PassbookDeadLetterMade",
        "PassbookDeadLettersOpen",
        "PassbookUsedUpWaiting",
        "PassbookVerifyFindings",
        "PassbookVerifyReportFindings",
    ];
    let jetstream = broker::connect(&monitored.stack).await;
    let commands = jetstream.get_stream("TRANSACTION").await.unwrap();
    let ledger = monitored.stack.ledger().await;
    let add = |amount: i32| {
        let change = format!(
            "UPDATE accounts SET balance = balance + {amount} WHERE account_id = '{account}'"
        );
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&ledger)
    };
    // Before the dead letter, because doctor reports that as well.
    monitored.resolved(&["PassbookDoctorFindings"]).await;
    let later = OffsetDateTime::now_utc() + Duration::from_secs(3600);
    commands.pause_consumer("withdrawal-consumer", later).await.unwrap();
    monitored.push("doctor").await;
    monitored.fire(&["PassbookDoctorFindings"]).await;
    monitored.resolved(&ALERTS).await;
    full_dead_letters(monitored, &jetstream).await;
    let foreign_advisory = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.other.consumer";
    broker::publish(&jetstream, foreign_advisory, &new_key(), "{}").await;
    add(1).await.unwrap();
    let reports = monitored.stack.reports().await;
    let alert = "INSERT INTO report_alerts (report_id, payload, taken_at, dead_lettered_at)
                 SELECT id, '{}', now(), now() FROM reports WHERE state = 'SUCCEEDED' LIMIT 1";
    sqlx::raw_sql(alert).execute(&reports).await.unwrap();
    monitored.push("verify").await;
    monitored.fire(&ALERTS).await;

    commands.resume_consumer("withdrawal-consumer").await.unwrap();
    add(-1).await.unwrap();
    sqlx::raw_sql("DELETE FROM report_alerts").execute(&reports).await.unwrap();
    jetstream.get_stream("USED_UP").await.unwrap().purge().await.unwrap();
    monitored.discard_dead_letters().await;
    monitored.verify_and_doctor().await;
}

/// The dead letter of an invalid command is not stored until its stream has room again.
async fn full_dead_letters(monitored: &mut Monitored, jetstream: &jetstream::Context) {
    const ALERTS: [&str; 3] =
        ["PassbookStreamFilling", "PassbookStreamFull", "PassbookDeadLettersUnstored"];
    monitored.resolved(&ALERTS).await;
    let closed = "dead-letter.closed.TRANSACTION.deposit-consumer";
    broker::publish(jetstream, closed, &new_key(), "{}").await;
    let letters = broker::stream(jetstream, "DEAD_LETTER").await;
    let mut full = letters.config.clone();
    full.max_bytes = i64::try_from(letters.state.bytes).unwrap();
    jetstream.update_stream(&full).await.unwrap();
    broker::publish(jetstream, "transaction.deposit", &new_key(), "garbage").await;
    monitored.fire(&ALERTS).await;
    jetstream.update_stream(&letters.config).await.unwrap();
}

async fn times_in_the_future(monitored: &mut Monitored, account: &str) {
    const ALERTS: [&str; 1] = ["PassbookClockSkew"];
    monitored.resolved(&ALERTS).await;
    let accounts = monitored.stack.accounts().await;
    let move_by = |days: i32| {
        let change = format!(
            "UPDATE transaction_records SET created_at = created_at + {days} * interval '1 day',
                 updated_at = updated_at + {days} * interval '1 day'
             WHERE account_id = '{account}'"
        );
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&accounts)
    };
    move_by(1).await.unwrap();
    monitored.push("verify").await;
    monitored.fire(&ALERTS).await;
    move_by(-1).await.unwrap();
    monitored.verify_and_doctor().await;
}

async fn old_runs_old_versions_and_memory(monitored: &mut Monitored) {
    const ALERTS: [&str; 5] = [
        "PassbookBrokerUnhealthy",
        "PassbookVerifyOverdue",
        "PassbookDoctorOverdue",
        "PassbookVersionSkew",
        "PassbookMemoryHigh",
    ];
    monitored.resolved(&ALERTS).await;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (job, hours) in [("verify", 3), ("doctor", 1)] {
        let then = now - hours * 3600;
        let metric = format!("passbook_{job}_last_run_timestamp_seconds {then}\n");
        monitored.gateway.put(&format!("passbook-{job}"), metric).await;
    }
    // No server of the stack is unhealthy: the finding is pushed instead.
    let unhealthy = "passbook_doctor_findings{area=\"NATS\",check=\"server health\"} 1\n";
    monitored.gateway.put("unhealthy", unhealthy.to_owned()).await;
    // No older program exists to run: its metric is pushed instead.
    let older = "passbook_build_info{service=\"transaction-service\",version=\"0.0.9\"} 1\n";
    monitored.gateway.put("older", older.to_owned()).await;
    let rules = short_rules();
    monitored.prometheus.replace_rules(&replace(&rules, MEMORY_THRESHOLD)).await;
    monitored.fire(&ALERTS).await;

    monitored.prometheus.replace_rules(&rules).await;
    monitored.gateway.delete("unhealthy").await;
    monitored.gateway.delete("older").await;
    monitored.verify_and_doctor().await;
}

async fn replicas_down(monitored: &mut Monitored) {
    const ONE: [&str; 2] = ["PassbookReplicaDown", "PassbookFewReplicas"];
    const ALL: [&str; 4] = [
        "PassbookServiceDown account-service",
        "PassbookServiceDown transaction-service",
        "PassbookServiceDown report-service",
        "PassbookServiceDown webhook-service",
    ];
    monitored.resolved(&["PassbookRestarts"]).await;
    for killed in 1..=4 {
        monitored.stack.fault("account-service-1", Fault::Kill).await;
        let starts = "changes(process_start_time_seconds{instance=\"account-service-1\"}[1m])";
        monitored
            .has_value("the killed replica was started again", starts, |value| {
                value >= f64::from(killed)
            })
            .await;
    }
    monitored.fire(&["PassbookRestarts"]).await;
    monitored.resolved(&ONE).await;
    monitored.stack.fault("transaction-service-0", Fault::Hold).await;
    monitored.fire(&ONE).await;
    monitored.resolved(&ALL).await;
    monitored.stack.fault("*-service-*", Fault::Hold).await;
    monitored.fire(&ALL).await;
    monitored.stack.fault("*-service-*", Fault::Release).await;
    monitored.healthy().await;
}

async fn broken_links(monitored: &mut Monitored, account: &str) {
    const ALERTS: [&str; 4] = [
        "PassbookApiErrors",
        "PassbookRedriveFailing",
        "PassbookDatabasePoolExhausted",
        "PassbookFetchErrors",
    ];
    monitored.resolved(&ALERTS).await;
    let clients = ["account-service-0", "account-service-1"]
        .map(|replica| Client::teller_at(&monitored.stack, replica));
    // A replica looks up an account that it does not know once for all requests, by one connection.
    for client in &clients {
        assert_eq!(client.account(account).await.status, 200);
    }
    for (link, fault) in [
        ("account-service-0/postgres", Fault::Silence),
        ("account-service-1/postgres", Fault::Refuse),
        ("transaction-service-*/nats", Fault::Silence),
    ] {
        monitored.stack.fault(link, fault).await;
    }
    let path = format!("/v1/accounts/{account}");
    let requests = clients.iter().cycle().take(16).map(|client| async {
        loop {
            let _ = client.send(Method::GET, &path, &[], None).await;
            tokio::time::sleep(INTERVAL).await;
        }
    });
    tokio::select! {
        () = monitored.fire(&ALERTS) => {}
        _ = join_all(requests) => {}
    }
    monitored.stack.fault("*/*", Fault::Pass).await;
    monitored.healthy().await;
}

async fn unsent_commands(monitored: &mut Monitored, client: &Client, account: &str) {
    const ALERTS: [&str; 1] = ["PassbookCommandsUnsent"];
    monitored.resolved(&ALERTS).await;
    monitored.stack.fault("nats", Fault::Hold).await;
    for _ in 0..3 {
        client.movement("deposits", account, "1", &new_key(), None).await;
    }
    monitored.fire(&ALERTS).await;
    monitored.stack.fault("nats", Fault::Release).await;
    monitored.healthy().await;
}

async fn refused_messages_and_locked_rows(
    monitored: &mut Monitored,
    client: &Client,
    account: &str,
) {
    const ALERTS: [&str; 2] = ["PassbookMessagesRefused", "PassbookRowsLocked"];
    monitored.resolved(&ALERTS).await;
    let jetstream = broker::connect(&monitored.stack).await;
    let mut results = broker::stream(&jetstream, "TRANSACTION_RESULT").await.config;
    results.max_message_size = 100;
    jetstream.update_stream(&results).await.unwrap();
    client.movement("deposits", account, "1", &new_key(), None).await;
    let refused = "sum(passbook_messages_refused_total)";
    monitored.has_value("the result is refused", refused, |value| value > 0.0).await;
    results.max_message_size = -1;
    jetstream.update_stream(&results).await.unwrap();

    let mut holder = monitored.stack.ledger().await.begin().await.unwrap();
    let lock = format!("SELECT FROM accounts WHERE account_id = '{account}' FOR UPDATE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *holder).await.unwrap();
    client.movement("deposits", account, "1", &new_key(), None).await;
    monitored.fire(&ALERTS).await;
    holder.rollback().await.unwrap();
    monitored.healthy().await;
}

fn deposit(account: &str) -> Value {
    let (amount, key) = ("1", new_key());
    json!({ "accountId": account, "type": "DEPOSIT", "amount": amount, "idempotencyKey": key })
}

async fn pending_records(monitored: &mut Monitored, client: &Client, account: &str) {
    const PENDING: [&str; 6] = [
        "PassbookConditionDown",
        "PassbookReplicaDegraded",
        "PassbookConsumerWithoutWorkers",
        "PassbookLagGrowing",
        "PassbookRecordPendingTooLong",
        "PassbookRedrivesHigh",
    ];
    const SETTLED: [&str; 2] = ["PassbookSettleLatencyBurn", "PassbookSettleLatencyBurnSlow"];
    monitored.resolved(&PENDING).await;
    monitored.stack.fault("transaction-service-*/postgres", Fault::Refuse).await;
    // Each replica holds up to 100 commands, and the alert needs more than 1,000 waiting ones. With
    // more than 2,000, there would be no redrive.
    for count in [1000, 500] {
        let items: Vec<_> = (0..count).map(|_| deposit(account)).collect();
        let response = client.post("/v1/batches", &[], &json!({ "items": items })).await;
        assert_eq!(response.status, 200, "{response:?}");
    }
    monitored.fire(&PENDING).await;
    monitored.resolved(&SETTLED).await;
    monitored.stack.fault("transaction-service-*/postgres", Fault::Pass).await;
    monitored.fire(&SETTLED).await;
    monitored.healthy().await;
}

async fn every_metric_and_label_in_the_rules_exists(monitored: &Monitored) {
    let mut sources = vec![("pushgateway".to_owned(), monitored.gateway.url())];
    let processes = monitored.stack.file().processes.into_iter();
    sources.extend(processes.filter_map(|process| Some((process.name, process.admin?))));
    let mut check = Command::new(observability().join("check.sh"));
    for (name, address) in sources {
        let response = reqwest::get(format!("{address}/metrics")).await.unwrap();
        let file = monitored.stack.dir.join(format!("{name}.metrics"));
        fs::write(&file, response.text().await.unwrap()).unwrap();
        check.arg(file);
    }
    let output = check.output().await.unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
