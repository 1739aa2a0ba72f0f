//! Faults under load, with two replicas of each service. `make reliability` runs
//! these tests at full size, `make test` smaller.

mod cluster;
mod outages;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use async_nats::jetstream::Context;
use devstack::Fault;
use futures::{StreamExt, stream};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tests::{
    Client, PendingDeposits, Stack, broker,
    chaos::{self, Action, Disruption, Experiment, Report},
    client::new_key,
    eventually, invariants,
    memory::MemorySampler,
    scale::size,
    stack::initialized_folder,
};

const CLIENTS: usize = 16;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn once(at: Duration, target: &str, fault: Fault) -> Disruption {
    let target = target.to_owned();
    Disruption { at, action: Action::Fault { target, fault, undo: None }, duration: None }
}

fn lasting(
    at: Duration,
    target: &str,
    fault: Fault,
    undo: Fault,
    duration: Duration,
) -> Disruption {
    let action = Action::Fault { target: target.to_owned(), fault, undo: Some(undo) };
    Disruption { at, action, duration: Some(duration) }
}

async fn under_load(name: &str, cluster: bool, disruptions: Vec<Disruption>) -> Report {
    let experiment = Experiment {
        name: name.to_owned(),
        disruptions,
        clients: CLIENTS,
        cluster,
        message_parts: 100,
        clock_of: "",
    };
    let report =
        chaos::run(&experiment, &initialized_folder(&name.replace(' ', "-")).await, false).await;
    report.print(&experiment);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    report
}

/// Checks that a deposit settled within `limit` after each disruption without an overlap, and that
/// there was one. At small size the limit is three times as long, because other tests run
/// concurrently.
fn assert_recovered_within(report: &Report, limit: Duration) {
    let limit = limit * size(1, 3);
    let undisturbed: Vec<_> =
        report.recoveries.iter().filter(|recovery| recovery.undisturbed).collect();
    for recovery in &undisturbed {
        assert!(recovery.took <= limit, "{recovery:?}");
    }
    assert!(!undisturbed.is_empty(), "{:?}", report.recoveries);
}

/// Requests deposits of 1, up to 64 at a time. Each must be accepted.
async fn deposits(client: &Client, account: &str, count: u32) {
    stream::iter(0..count)
        .for_each_concurrent(64, |_| async {
            let response = client.movement("deposits", account, "1", &new_key(), None).await;
            assert_eq!(response.status, 202, "{response:?}");
        })
        .await;
}

async fn pending(stack: &Stack) -> i64 {
    let mut accounts = PgConnection::connect(&stack.file().databases.account).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM transaction_records WHERE status = 'PENDING'")
        .fetch_one(&mut accounts)
        .await
        .unwrap()
}

/// Waits until no record is PENDING. Gives the time it took.
async fn none_pending(stack: &Stack, within: Duration) -> Duration {
    let begun = Instant::now();
    eventually("no record is PENDING", within, || async {
        let count = pending(stack).await;
        // Counting many records takes processor time from the services: it is done less often.
        tokio::time::sleep(Duration::from_millis(u64::try_from(count / 100).unwrap())).await;
        (count == 0).then_some(())
    })
    .await;
    begun.elapsed()
}

/// Stores records and publishes their commands, as so many requests would.
async fn add_backlog(stack: &Stack, jetstream: &Context, account: &str, count: usize) {
    let accounts = stack.accounts().await;
    let records: Vec<String> = (0..count).map(|_| new_key()).collect();
    // Not due for a redrive, because their commands are in the stream.
    let deposits = PendingDeposits::of(account).not_due();
    for part in records.chunks(10_000) {
        deposits.store(&accounts, part.iter().map(|record| (record.as_str(), 1))).await;
    }
    let publish = |record: &String| {
        let (id, command) = (record.clone(), broker::deposit_command(record, account, "1"));
        async move {
            broker::publish(jetstream, "transaction.deposit", &id, command).await;
        }
    };
    stream::iter(&records).for_each_concurrent(1000, publish).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_again_and_again_lose_nothing_and_serve_again_at_once() {
    let services = ["account-service-0", "transaction-service-0", "account-service-*"];
    let all = services.iter().chain(&["transaction-service-*", "*-service-*"]);
    let rounds = size(5, 1);
    let kills = (0..rounds).flat_map(|_| all.clone()).zip(1..);
    let disruptions =
        kills.map(|(target, turn)| once(seconds(turn * 7), target, Fault::Kill)).collect();
    let report = under_load("killed again and again", false, disruptions).await;
    // One second until the restart, and five seconds to serve again.
    assert_recovered_within(&report, seconds(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pending_records_settle_though_the_broker_lost_everything() {
    let count = size(10_000, 2000);
    let stack = Stack::start_with_faults("wiped").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    stack.fault("transaction-service-*", Fault::Hold).await;
    deposits(&client, &account, count).await;
    assert_eq!(pending(&stack).await, i64::from(count));
    stack.fault("nats", Fault::Wipe).await;
    stack.fault("transaction-service-*", Fault::Release).await;
    let took = none_pending(&stack, seconds(60)).await;
    println!("{count} PENDING records settled {took:.1?} after the broker lost its messages");
    assert_eq!(client.account(&account).await.text("balance"), count.to_string());
    invariants::assert_verified(&stack).await;
}

/// Truncated JSON, JSON of another kind, or a command with an invalid amount.
fn not_a_command(number: u32, account: &str) -> String {
    match number % 3 {
        0 => format!("{{\"recordId\":\"{}", new_key()),
        1 => json!({ "recordId": new_key(), "number": number }).to_string(),
        _ => json!({
            "recordId": new_key(), "accountId": account, "userId": "nobody", "type": "DEPOSIT",
            "amount": "1e400", "currency": "KRW", "requestedAt": "2026-01-02T03:04:05Z",
        })
        .to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_among_good_messages_ends_as_dead_letters_and_takes_less_than_half_the_speed() {
    let (valid, poison) = size((10_000, 1000), (2000, 200));
    let stack = Stack::start_with_faults("poison").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    let bodies: Vec<_> = (0..poison).map(|number| not_a_command(number, &account)).collect();
    let mut took = Vec::new();
    for published in [&[][..], &bodies] {
        stack.fault("transaction-service-*", Fault::Hold).await;
        let interval = valid / poison;
        let (jetstream, client, account) = (&jetstream, &client, &account);
        let all = (0..valid).map(|at| async move {
            deposits(client, account, 1).await;
            let body = published.get(usize::try_from(at / interval).unwrap());
            if let (0, Some(body)) = (at % interval, body) {
                let body = body.as_str();
                broker::publish(jetstream, "transaction.deposit", &new_key(), body).await;
            }
        });
        stream::iter(all).buffer_unordered(64).collect::<Vec<_>>().await;
        let begun = Instant::now();
        stack.fault("transaction-service-*", Fault::Release).await;
        none_pending(&stack, seconds(60)).await;
        took.push(begun.elapsed());
    }
    broker::stream_holds(&jetstream, "DEAD_LETTER", poison.into(), seconds(30)).await;
    let dead_letters = broker::dead_letters(&jetstream).await;
    let dead: BTreeSet<_> = dead_letters.iter().map(|dead_letter| &*dead_letter.body).collect();
    assert_eq!(dead, bodies.iter().map(String::as_bytes).collect());
    println!(
        "{valid} valid messages: {:.2?}; with {poison} poison messages among them: {:.2?}",
        took[0], took[1]
    );
    // At small size a round takes less than a second, so that concurrent tests matter more.
    assert!(took[1] < took[0] * size(2, 5), "{took:?}");
    assert_eq!(client.account(&account).await.text("balance"), (valid * 2).to_string());
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_backlog() {
    let count = size(1_000_000, 40_000);
    let mut peaks = Vec::new();
    // In 40 rounds of a thousand commands every buffer reaches its largest size.
    for (rounds, backlog) in [(40, 1000), (1, count)] {
        let stack = Stack::start_with_faults(&format!("backlog-{backlog}")).await;
        let account = Client::teller(&stack).open_account("KRW").await;
        let jetstream = broker::connect(&stack).await;
        let memory = MemorySampler::start(&stack);
        for _ in 0..rounds {
            stack.fault("transaction-service-*", Fault::Freeze).await;
            add_backlog(&stack, &jetstream, &account, backlog).await;
            stack.fault("transaction-service-*", Fault::Thaw).await;
            none_pending(&stack, seconds(1800)).await;
        }
        let peak: Vec<_> = memory.finish().await.into_iter().collect();
        println!("a backlog of {backlog} commands, {rounds} times: peak MiB {peak:?}");
        peaks.push(peak);
        invariants::assert_verified(&stack).await;
    }
    for ((name, small), (_, large)) in peaks[0].iter().zip(&peaks[1]) {
        assert!(large * 10 <= small * 12, "{name}: {small} MiB with 1,000, {large} with {count}");
    }
}
