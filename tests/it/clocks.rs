//! Wrong clocks: everything settles, by whatever time a clock is wrong, and whichever way it
//! jumps while records are PENDING.

use std::time::Duration;

use async_nats::jetstream::Context;
use nix::sys::signal::Signal;
use runtime::postgres::PgPool;
use serde_json::{Value, json};
use tests::{
    Client, Depositors, Stack, broker, broker_clock::BrokerClock, client::new_key, eventually,
    faketime::Clock, invariants, process::signal, stack::initialized_folder,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::reports::statement;

/// A clock is read once a second, and compared every five.
const NOTICED: Duration = Duration::from_secs(20);
const SETTLED: Duration = Duration::from_secs(30);
const CLIENTS: usize = 8;
const DAY: i64 = 24 * 60 * 60;

/// A stack in which the clock of these programs can jump, with further arguments.
async fn start(name: &str, programs: &'static str, more: &[&str]) -> (Stack, Clock) {
    let folder = initialized_folder(name).await;
    let clock = Clock::right(folder.with_extension("clock"), programs);
    let arguments = [&["--port", "0"], more].concat();
    let stack = Stack::start_under(&folder, &clock.settings(), &arguments).await;
    (stack, clock)
}

/// Waits until a replica reports the difference of its clock and the database's. `None`: there is
/// none.
async fn reported(stack: &Stack, direction: Option<&str>) {
    let file = stack.file();
    let replica = file.processes.iter().find(|process| process.name == "account-service-0");
    let address = format!("{}/readyz", replica.unwrap().admin.as_deref().unwrap());
    eventually(&format!("the clock is {direction:?}"), NOTICED, || async {
        let report: Value = reqwest::get(&address).await.ok()?.json().await.ok()?;
        let mut conditions = report["conditions"].as_array()?.iter();
        let clock = conditions.find(|condition| condition["name"] == "clock")?;
        let is_reported = match direction {
            Some(direction) => clock["reason"].as_str()?.contains(direction),
            None => clock["up"] == true,
        };
        // A wrong clock takes no replica out of service.
        (is_reported && report["ready"] == true).then_some(())
    })
    .await;
}

/// Accepts a deposit of 10, loses its command and those of its first `redrives` redrives, and lets
/// the clock jump. Only another redrive can settle it: it does within 30 s. Gives its record.
///
/// The workers are paused for one record at a time. The interval between redrives doubles: after
/// several, a record would be due later than in 30 s.
async fn settles_after_a_jump(
    (stack, client): (&Stack, &Client),
    (account, redrives): (&str, i32),
    jump: impl FnOnce(),
) -> String {
    let jetstream = broker::connect(stack).await;
    let paused = stack.pause_workers();
    broker::no_open_pulls(&jetstream, "TRANSACTION", "deposit-consumer").await;
    let accepted = client.movement("deposits", account, "10", &new_key(), None).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let record = accepted.text("recordId").to_owned();
    for redriven in 0..=redrives {
        lose_commands(stack, &jetstream, &record, redriven).await;
    }
    jump();
    drop(paused);
    eventually(&format!("record {record} is settled"), SETTLED, || async {
        (client.record(&record).await.text("status") == "SUCCESS").then_some(())
    })
    .await;
    record
}

/// Waits until the record was redriven this often and its command is in the stream, and empties
/// the stream.
async fn lose_commands(stack: &Stack, jetstream: &Context, record: &str, redrives: i32) {
    let accounts = stack.accounts().await;
    eventually("the command is sent", SETTLED, || async {
        let sent = broker::stream(jetstream, "TRANSACTION").await.state.messages > 0;
        (sent && count_redrives(&accounts, record).await >= redrives).then_some(())
    })
    .await;
    jetstream.get_stream("TRANSACTION").await.unwrap().purge().await.unwrap();
}

async fn count_redrives(accounts: &PgPool, record: &str) -> i32 {
    sqlx::query_scalar("SELECT redrives FROM transaction_records WHERE id = $1")
        .bind(Uuid::parse_str(record).unwrap())
        .fetch_one(accounts)
        .await
        .unwrap()
}

#[tokio::test]
async fn records_settle_though_the_clock_of_their_service_jumps_by_a_day_either_way() {
    let (stack, clock) = start("clock-of-the-service", "account-service", &[]).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let mut records = Vec::new();
    // The direction before the jump, as seen by the database.
    for (direction, offset) in [
        (None, "+1d"),
        (Some("behind"), "+0"),
        (None, "-1d"),
        (Some("ahead of"), "+600"),
        (Some("behind"), "+0"),
    ] {
        reported(&stack, direction).await;
        let jump = || clock.jump(offset);
        records.push(settles_after_a_jump((&stack, &client), (&account, 0), jump).await);
    }
    assert_eq!(client.account(&account).await.text("balance"), "50");
    // Only the time of the second is still in the future, or also that of the fifth.
    let (code, report) = invariants::verify(&stack).await;
    assert_eq!(code, 1, "{report:#}");
    let ahead = report["dated"]["first"].as_array().unwrap();
    let names = |record: &String| {
        ahead.iter().any(|finding| finding.as_str().unwrap().contains(record.as_str()))
    };
    assert!(names(&records[1]) && !names(&records[3]), "{report:#}");
    let others = ["once", "pinned", "conserved", "settled", "agreed", "projected"];
    for check in others.into_iter().chain(["chained", "announced"]) {
        assert_eq!(report[check]["findings"], 0, "{report:#}");
    }
}

#[tokio::test]
async fn records_settle_though_the_clock_of_the_database_jumps_by_a_day_either_way() {
    let reports = ["--report-replicas", "1"];
    let (stack, clock) = start("clock-of-the-database", "postgres", &reports).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let mut ahead = None;
    for (direction, offset) in [(None, "+1d"), (Some("ahead of"), "-1d"), (Some("behind"), "+0")] {
        reported(&stack, direction).await;
        if direction == Some("ahead of") {
            ahead = Some(opened_ahead(&stack, &client).await);
        }
        // The next redrive is due by the clock before the jump.
        let jump = || clock.jump(offset);
        settles_after_a_jump((&stack, &client), (&account, 1), jump).await;
    }
    reported(&stack, None).await;
    assert_eq!(client.account(&account).await.text("balance"), "30");
    let (opened, key) = ahead.unwrap();
    client.deposit(&opened, "5").await;
    let statement = client.report(&statement(&opened, &["csv"]), 10).await;
    assert_eq!((statement.status, statement.text("state")), (200, "SUCCEEDED"), "{statement:?}");
    // All of them were made while the clock was ahead.
    let (_, report) = invariants::verify(&stack).await;
    assert!(invariants::only_dated(&report), "{report:#}");
    let findings = report["dated"]["first"].to_string();
    for row in [format!("account {opened} has"), format!("event 1 of account {opened}"), key] {
        assert!(findings.contains(&row), "{row}: {report:#}");
    }
    assert!(findings.contains("audit entry"), "{report:#}");
}

/// A new account and a new API key, as findings name it.
async fn opened_ahead(stack: &Stack, client: &Client) -> (String, String) {
    let account = client.open_account("KRW").await;
    let body = json!({ "name": "a test", "scopes": ["accounts:read"] });
    let key = Client::admin(stack).post("/v1/api-keys", &[], &body).await;
    assert_eq!(key.status, 201, "{key:?}");
    (account, format!("API key {}", key.text("apiKeyId")))
}

/// Waits until a result has a time of a clock that is wrong by these seconds.
async fn broker_is_wrong_by(jetstream: &Context, seconds: i64) {
    eventually(&format!("the broker's clock is wrong by {seconds} s"), SETTLED, || async {
        let last = broker::stream(jetstream, "TRANSACTION_RESULT").await.state.last_timestamp;
        let wrong_by = (last - OffsetDateTime::now_utc()).whole_seconds();
        ((wrong_by - seconds).abs() < 30).then_some(())
    })
    .await;
}

/// At each jump, a replica of each kind is killed with messages in its hands. The broker counts the
/// ack wait of these by its clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_settle_though_the_clock_of_the_broker_jumps_by_a_day_either_way() {
    let stack = Stack::start("clock-of-the-broker").await;
    let Some(clock) = BrokerClock::of(stack.pid("nats")) else {
        println!("skipped: the clock of nats-server can't be changed here");
        return;
    };
    let (client, jetstream) = (Client::teller(&stack), broker::connect(&stack).await);
    let account = client.open_account("KRW").await;
    let load = Depositors::start(&stack, CLIENTS).await;
    load.settles(SETTLED).await;
    for seconds in [DAY, 0, -DAY, 600, 0] {
        let replicas = ["account-service-0", "transaction-service-0"];
        let replicas = replicas.map(|name| (name, stack.pid(name)));
        let jump = || {
            for (_, pid) in replicas {
                signal(pid, Signal::SIGKILL);
            }
            clock.jump(seconds);
        };
        settles_after_a_jump((&stack, &client), (&account, 0), jump).await;
        broker_is_wrong_by(&jetstream, seconds).await;
        for (name, before) in replicas {
            stack.restarted(name, before, SETTLED).await;
            stack.replica_ready(name).await;
        }
        let took = load.settles(SETTLED).await;
        println!("wrong by {seconds} s: a deposit was settled after {took:.1?}");
    }
    let deposits = load.finish(&stack, SETTLED).await;
    println!("{deposits} deposits settled");
    assert_eq!(client.account(&account).await.text("balance"), "50");
}
