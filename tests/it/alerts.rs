//! A real Prometheus beside a real stack: the condition of each alert of
//! `deploy/observability` is caused, and the alert fires; while all is well,
//! none does.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use devstack::Fault;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::{
    Client, Stack, broker, checks,
    client::new_key,
    eventually,
    prometheus::{self, Prometheus, Pushgateway},
    stack::{folder, run, run_with},
};
use time::OffsetDateTime;
use tokio::{process::Command, time::Instant};

const SOON: Duration = Duration::from_secs(90);

const HEALTHY: Duration = Duration::from_secs(15);

/// Between two looks: the rules are evaluated once a second.
const LOOK: Duration = Duration::from_millis(250);

/// All that is changed in the rules, beside `for`: windows that no test could
/// wait for, and, below, the one threshold that is such a time, too.
const QUICK: [(&str, &str); 10] = [
    ("[2m]", "[10s]"),
    ("[5m]", "[20s]"),
    ("offset 5m", "offset 20s"),
    ("[15m]", "[20s]"),
    ("offset 15m", "offset 20s"),
    ("[10m]", "[30s]"),
    ("[30m]", "[30s]"),
    ("[1h]", "[1m]"),
    ("[6h]", "[30s]"),
    ("[3d]", "[30s]"),
];
const PENDING: (&str, &str) = ("oldest_seconds) > 120", "oldest_seconds) > 5");
/// No load reaches the real one.
const MEMORY: (&str, &str) = ("0.8 * 128 * 2^20", "0.8 * 1 * 2^20");

fn observability() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/observability")
}

fn with(rules: &str, (old, new): (&str, &str)) -> String {
    assert!(rules.contains(old), "the rules have no {old}");
    rules.replace(old, new)
}

fn is_for(line: &str) -> bool {
    line.trim_start().starts_with("for: ")
}

fn quick_rules() -> String {
    let rules = fs::read_to_string(observability().join("prometheus/rules.yaml")).unwrap();
    // Three seconds rather than none: a scrape may be missed on a busy machine.
    let quick_for = |line| if is_for(line) { "        for: 3s" } else { line };
    let rules: Vec<_> = rules.lines().map(quick_for).collect();
    let changes = QUICK.iter().chain([&PENDING]);
    changes.fold(rules.join("\n"), |rules, change| with(&rules, *change))
}

/// A stack, who watches it, and the alerts that were caused and seen.
struct Watched {
    // First to be stopped: its data is in the stack's folder.
    prometheus: Prometheus,
    gateway: Pushgateway,
    stack: Stack,
    seen: BTreeSet<String>,
}

impl Watched {
    async fn start() -> Self {
        let stack = Stack::start_in(&folder("alerts"), &["--port", "0", "--faults"]).await;
        let gateway = Pushgateway::start(&stack).await;
        let prometheus = Prometheus::start(&stack, &gateway, &quick_rules()).await;
        Self { prometheus, gateway, stack, seen: BTreeSet::new() }
    }

    async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.prometheus.alerts().await;
        alerts.into_iter().filter(|it| it.firing).map(|it| it.name).collect()
    }

    /// Looks until it is so of the alerts that fire.
    async fn until(&self, what: &str, mut is_so: impl FnMut(&BTreeSet<String>) -> bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let firing = self.firing().await;
            if is_so(&firing) {
                return;
            }
            assert!(Instant::now() < deadline, "not within {SOON:?}: {what}; firing: {firing:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Before their cause: else it would not be what they fire for.
    async fn quiet(&self, alerts: &[&str]) {
        let what = format!("{alerts:?} have ended");
        self.until(&what, |firing| !alerts.iter().any(|it| firing.contains(*it))).await;
    }

    /// Not all at the same time: one may end before another begins.
    async fn fire(&mut self, alerts: &[&str]) {
        let begun = Instant::now();
        let mut missing = alerts.to_vec();
        let what = format!("{alerts:?} fire");
        let none_is_missing = |firing: &BTreeSet<String>| {
            missing.retain(|it| !firing.contains(*it));
            missing.is_empty()
        };
        self.until(&what, none_is_missing).await;
        println!("{:.1?}: {alerts:?}", begun.elapsed());
        self.seen.extend(alerts.iter().map(ToString::to_string));
    }

    /// Everything is there, as Prometheus sees it, and nothing waits.
    async fn well(&self) {
        let ready = "sum(min by (job, instance) (passbook_condition_up)) \
                     - max(passbook_records_pending)";
        eventually("all is well", SOON, || async {
            tokio::time::sleep(LOOK).await;
            (self.prometheus.value(ready).await == Some(4.0)).then_some(())
        })
        .await;
    }

    async fn push(&self, command: &str) {
        let dir = self.stack.dir.to_str().unwrap();
        let gateway = self.gateway.url();
        let to = [("PASSBOOK_PUSHGATEWAY_URL", gateway.as_str())];
        let output = run_with(&[command, "--dir", dir], &to).await;
        // 1 is a finding.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    }

    async fn verify_and_doctor(&self) {
        self.push("verify").await;
        self.push("doctor").await;
    }
}

#[tokio::test]
async fn each_alert_fires_on_its_condition_and_none_fires_in_a_healthy_system() {
    if !prometheus::installed() {
        return;
    }
    let mut watched = Watched::start().await;
    // Nothing was ever pushed.
    watched.fire(&["PassbookVerifyOverdue", "PassbookDoctorOverdue"]).await;
    let client = Client::teller(&watched.stack);
    let account = client.open_account("KRW").await;
    nothing_fires_in_a_healthy_run(&watched, &client, &account).await;

    what_should_not_be_there(&mut watched, &account).await;
    what_is_too_old_or_too_large(&mut watched).await;
    replicas_that_are_gone(&mut watched).await;
    networks_that_are_cut(&mut watched, &account).await;
    commands_that_are_not_sent(&mut watched, &client, &account).await;
    records_that_wait(&mut watched, &client, &account).await;

    let all = watched.prometheus.alerts().await.into_iter().map(|it| it.name);
    let uncaused: Vec<_> = all.filter(|it| !watched.seen.contains(it)).collect();
    assert!(uncaused.is_empty(), "nothing here causes {uncaused:?}");
    checks::assert_verified(&watched.stack).await;
    watched.verify_and_doctor().await;
    every_metric_and_label_that_is_asked_for_exists(&watched).await;
    watched.until("all have ended", BTreeSet::is_empty).await;
}

async fn nothing_fires_in_a_healthy_run(watched: &Watched, client: &Client, account: &str) {
    for (amount, withdrawn) in [("100", "SUCCESS"), ("20", "SUCCESS"), ("3", "FAILED")] {
        assert_eq!(client.deposit(account, amount).await.text("status"), "SUCCESS");
        let answer = client.withdraw(account, "50").await;
        assert_eq!(answer.text("status"), withdrawn, "{answer:?}");
    }
    watched.verify_and_doctor().await;
    eventually("Prometheus sees all", SOON, || async {
        watched.prometheus.sees_all().await.then_some(())
    })
    .await;
    watched.until("none fires", BTreeSet::is_empty).await;
    let begun = Instant::now();
    while begun.elapsed() < HEALTHY {
        client.deposit(account, "1").await;
        assert_eq!(watched.firing().await, BTreeSet::new(), "{:?}", begun.elapsed());
        tokio::time::sleep(LOOK).await;
    }
}

async fn what_should_not_be_there(watched: &mut Watched, account: &str) {
    const ALERTS: [&str; 4] = [
        "PassbookDeadLetterMade",
        "PassbookDeadLettersOpen",
        "PassbookUsedUpWaiting",
        "PassbookVerifyFindings",
    ];
    let jetstream = broker::connect(&watched.stack).await;
    let commands = jetstream.get_stream("TRANSACTION").await.unwrap();
    let ledger = watched.stack.ledger().await;
    let add = |amount: i32| {
        let change = format!(
            "UPDATE accounts SET balance = balance + {amount} WHERE account_id = '{account}'"
        );
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&ledger)
    };
    // Before there is a dead letter, which doctor finds, too.
    watched.quiet(&["PassbookDoctorFindings"]).await;
    let later = OffsetDateTime::now_utc() + Duration::from_secs(3600);
    commands.pause_consumer("withdrawal-consumer", later).await.unwrap();
    watched.push("doctor").await;
    watched.fire(&["PassbookDoctorFindings"]).await;
    watched.quiet(&ALERTS).await;
    broker::publish(&jetstream, "transaction.deposit", &new_key(), "garbage").await;
    let of_somebody_else = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.job.job_cons";
    broker::publish(&jetstream, of_somebody_else, &new_key(), "{}").await;
    add(1).await.unwrap();
    watched.push("verify").await;
    watched.fire(&ALERTS).await;

    commands.resume_consumer("withdrawal-consumer").await.unwrap();
    add(-1).await.unwrap();
    jetstream.get_stream("USED_UP").await.unwrap().purge().await.unwrap();
    let dir = watched.stack.dir.to_str().unwrap();
    let discard = ["dlq", "discard", "--all", "--reason", "the test's own", "--yes", "--dir", dir];
    let output = run(&discard).await;
    assert!(output.status.success(), "{output:?}");
    watched.verify_and_doctor().await;
}

async fn what_is_too_old_or_too_large(watched: &mut Watched) {
    const ALERTS: [&str; 4] = [
        "PassbookVerifyOverdue",
        "PassbookDoctorOverdue",
        "PassbookVersionSkew",
        "PassbookMemoryHigh",
    ];
    watched.quiet(&ALERTS).await;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (job, hours) in [("verify", 3), ("doctor", 1)] {
        let then = now - hours * 3600;
        let metric = format!("passbook_{job}_last_run_timestamp_seconds {then}\n");
        watched.gateway.put(&format!("passbook-{job}"), metric).await;
    }
    // There is no older program to run: this one is told of.
    let older = "passbook_build_info{service=\"transaction-service\",version=\"0.0.9\"} 1\n";
    watched.gateway.put("older", older.to_owned()).await;
    let rules = quick_rules();
    watched.prometheus.replace_rules(&with(&rules, MEMORY)).await;
    watched.fire(&ALERTS).await;

    watched.prometheus.replace_rules(&rules).await;
    watched.gateway.forget("older").await;
    watched.verify_and_doctor().await;
}

async fn replicas_that_are_gone(watched: &mut Watched) {
    const ONE: [&str; 2] = ["PassbookReplicaDown", "PassbookFewReplicas"];
    const ALL: [&str; 2] =
        ["PassbookServiceDown account-service", "PassbookServiceDown transaction-service"];
    watched.quiet(&["PassbookRestarts"]).await;
    for killed in 1..=4 {
        watched.stack.fault("account-service-1", Fault::Kill).await;
        let starts = "changes(process_start_time_seconds{instance=\"account-service-1\"}[1m])";
        eventually("it was started again", SOON, || async {
            tokio::time::sleep(LOOK).await;
            (watched.prometheus.value(starts).await >= Some(f64::from(killed))).then_some(())
        })
        .await;
    }
    watched.fire(&["PassbookRestarts"]).await;
    watched.quiet(&ONE).await;
    watched.stack.fault("transaction-service-0", Fault::Hold).await;
    watched.fire(&ONE).await;
    watched.quiet(&ALL).await;
    watched.stack.fault("*-service-*", Fault::Hold).await;
    watched.fire(&ALL).await;
    watched.stack.fault("*-service-*", Fault::Release).await;
    watched.well().await;
}

async fn networks_that_are_cut(watched: &mut Watched, account: &str) {
    const ALERTS: [&str; 4] = [
        "PassbookApiErrors",
        "PassbookRedriveFailing",
        "PassbookDatabasePoolExhausted",
        "PassbookFetchErrors",
    ];
    watched.quiet(&ALERTS).await;
    let clients = ["account-service-0", "account-service-1"]
        .map(|replica| Client::teller_at(&watched.stack, replica));
    for (link, fault) in [
        ("account-service-0/postgres", Fault::Silence),
        ("account-service-1/postgres", Fault::Refuse),
        ("transaction-service-*/nats", Fault::Silence),
    ] {
        watched.stack.fault(link, fault).await;
    }
    let path = format!("/v1/accounts/{account}");
    let requests = clients.iter().cycle().take(16).map(|client| async {
        loop {
            let _ = client.send(Method::GET, &path, &[], None).await;
            tokio::time::sleep(LOOK).await;
        }
    });
    tokio::select! {
        () = watched.fire(&ALERTS) => {}
        _ = join_all(requests) => {}
    }
    watched.stack.fault("*/*", Fault::Pass).await;
    watched.well().await;
}

async fn commands_that_are_not_sent(watched: &mut Watched, client: &Client, account: &str) {
    const ALERTS: [&str; 1] = ["PassbookCommandsUnsent"];
    watched.quiet(&ALERTS).await;
    watched.stack.fault("nats", Fault::Hold).await;
    for _ in 0..3 {
        client.movement("deposits", account, "1", &new_key(), None).await;
    }
    watched.fire(&ALERTS).await;
    watched.stack.fault("nats", Fault::Release).await;
    watched.well().await;
}

fn deposit(account: &str) -> Value {
    let (amount, key) = ("1", new_key());
    json!({ "accountId": account, "type": "DEPOSIT", "amount": amount, "idempotencyKey": key })
}

async fn records_that_wait(watched: &mut Watched, client: &Client, account: &str) {
    const WAITING: [&str; 6] = [
        "PassbookConditionDown",
        "PassbookReplicaDegraded",
        "PassbookConsumerWithoutWorkers",
        "PassbookLagGrowing",
        "PassbookRecordPendingTooLong",
        "PassbookRedrivesHigh",
    ];
    const SETTLED: [&str; 2] = ["PassbookSettleLatencyBurn", "PassbookSettleLatencyBurnSlow"];
    watched.quiet(&WAITING).await;
    watched.stack.fault("transaction-service-*/postgres", Fault::Refuse).await;
    // Each replica keeps up to 500 in hand, and more than 1,000 must wait.
    for _ in 0..3 {
        let items: Vec<_> = (0..1000).map(|_| deposit(account)).collect();
        let answer = client.post("/v1/batches", &[], &json!({ "items": items })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    watched.fire(&WAITING).await;
    watched.quiet(&SETTLED).await;
    watched.stack.fault("transaction-service-*/postgres", Fault::Pass).await;
    watched.fire(&SETTLED).await;
    watched.well().await;
}

async fn every_metric_and_label_that_is_asked_for_exists(watched: &Watched) {
    let mut sources = vec![("pushgateway".to_owned(), watched.gateway.url())];
    let processes = watched.stack.file().processes.into_iter();
    sources.extend(processes.filter_map(|it| Some((it.name, it.admin?))));
    let mut check = Command::new(observability().join("check.sh"));
    for (name, address) in sources {
        let told = reqwest::get(format!("{address}/metrics")).await.unwrap().text().await.unwrap();
        let file = watched.stack.dir.join(format!("{name}.metrics"));
        fs::write(&file, told).unwrap();
        check.arg(file);
    }
    let output = check.output().await.unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
