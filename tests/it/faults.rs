//! Faults under load, with two replicas of each service. `make reliability` runs
//! these tests at full size, `make test` smaller.

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
    Client, PendingDeposits, Response, Stack, broker,
    chaos::{self, Action, Disruption, Experiment, Report},
    client::new_key,
    eventually, invariants,
    memory::MemorySampler,
    scale::size,
    small_disk::SmallDisk,
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

/// Checks that every request got a response with one of these statuses.
fn assert_statuses(report: &Report, statuses: &[u16]) {
    let others: Vec<_> =
        report.responses.iter().filter(|(status, _)| !statuses.contains(status)).collect();
    assert!(others.is_empty(), "{others:?}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deposits_are_accepted_while_the_broker_is_down_and_settle_afterwards() {
    let outage = seconds(size(60, 10));
    let disruptions = vec![lasting(seconds(8), "nats", Fault::Hold, Fault::Release, outage)];
    let report = under_load("NATS down", false, disruptions).await;
    assert_statuses(&report, &[200, 202]);
    assert_recovered_within(&report, seconds(10));
    for (name, peak) in &report.memory {
        assert!(*peak < 64, "{name}: {peak} MiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_ledgers_database_costs_no_delivery_and_makes_no_dead_letter() {
    let outage = seconds(size(60, 10));
    let stack = Stack::start_with_faults("ledger-down").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    deposits(&client, &account, 200).await;
    stack.fault("transaction-service-*/postgres", Fault::Refuse).await;
    let begun = Instant::now();
    let mut accepted = 200;
    while begun.elapsed() < outage {
        deposits(&client, &account, 20).await;
        accepted += 20;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(pending(&stack).await > 0);
    stack.fault("transaction-service-*/postgres", Fault::Pass).await;
    let end = Instant::now();
    let next = client.deposit(&account, "1").await;
    println!("ledger up again: a deposit settled after {:.2?}", end.elapsed());
    assert!(end.elapsed() < seconds(size(5, 15)), "{:?}", end.elapsed());
    assert_eq!(next.text("status"), "SUCCESS");
    let took = none_pending(&stack, seconds(30)).await;
    println!("all {accepted} deposits settled {took:.2?} later");
    let jetstream = broker::connect(&stack).await;
    assert_eq!(broker::dead_letters(&jetstream).await, []);
    assert_eq!(broker::stream(&jetstream, "USED_UP").await.state.last_sequence, 0);
    let consumer = broker::consumer(&jetstream, "TRANSACTION", "deposit-consumer").await;
    let delivered = &consumer.cached_info().delivered;
    // Every message was delivered once: the outage cost no delivery.
    assert_eq!(delivered.consumer_sequence, delivered.stream_sequence);
    assert_eq!(client.account(&account).await.text("balance"), (accepted + 1).to_string());
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_account_database_is_down_requests_get_503_and_results_wait() {
    let stack = Stack::start_with_faults("accounts-down").await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    // The results of these deposits arrive during the outage.
    stack.fault("transaction-service-*", Fault::Freeze).await;
    deposits(&client, &account, 50).await;
    stack.fault("account-service-*/postgres", Fault::Refuse).await;
    stack.fault("transaction-service-*", Fault::Thaw).await;
    let (key, begun) = (new_key(), Instant::now());
    let rejected = stream::iter(0..16).for_each_concurrent(16, |_| async {
        while begun.elapsed() < seconds(size(60, 8)) {
            let response = client.movement("deposits", &account, "7", &key, None).await;
            // Connections of before are reset: their requests have an unknown outcome.
            let problem = response.problem();
            assert_eq!(response.status, 503, "{response:?}");
            assert!(["unavailable", "outcome-unknown"].contains(&problem), "{response:?}");
            let retry_after = response.header("retry-after").unwrap().parse::<u32>().unwrap();
            assert!((1..=60).contains(&retry_after), "{retry_after}");
        }
    });
    rejected.await;
    assert_eq!(pending(&stack).await, 50);
    stack.fault("account-service-*/postgres", Fault::Pass).await;
    let took = none_pending(&stack, seconds(size(10, 30))).await;
    println!("the results of the outage were settled {took:.2?} after its end");
    let response =
        eventually("the service accepts requests again", seconds(size(5, 15)), || async {
            let response = client.movement("deposits", &account, "7", &key, Some(10)).await;
            (response.status == 200).then_some(response)
        })
        .await;
    // The rejected requests have stored nothing.
    assert_eq!(response.header("idempotent-replayed"), None);
    assert_eq!(response.text("balanceAfter"), "57");
    let jetstream = broker::connect(&stack).await;
    assert_eq!(broker::dead_letters(&jetstream).await, []);
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
async fn a_cluster_goes_on_without_its_leader_and_without_a_node_that_is_gone_for_ever() {
    let disruptions = vec![
        Disruption { at: seconds(3), action: Action::StepDown("TRANSACTION"), duration: None },
        lasting(seconds(8), "nats-2", Fault::Hold, Fault::Release, seconds(8)),
        once(seconds(26), "nats-1", Fault::Wipe),
        // The node loses the other nodes, but not its clients.
        lasting(seconds(38), "*nats-0*", Fault::Refuse, Fault::Pass, seconds(8)),
    ];
    let report = under_load("a cluster", true, disruptions).await;
    assert_recovered_within(&report, seconds(10));
}

/// A stack with three brokers, and an account with a settled deposit of 1.
async fn start_cluster(name: &str) -> (Stack, Client, String) {
    let nodes = ["--port", "0", "--faults", "--nats-nodes", "3"];
    let stack = Stack::start_in(&initialized_folder(name).await, &nodes).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    (stack, client, account)
}

const BACKLOG: u32 = 500;

/// The server ends a full fetch by a status. In a cluster the status arrives before the
/// messages. A message that reached nobody would be delivered again after `ack_wait`.
async fn full_fetches_lose_no_message(stack: &Stack, jetstream: &Context, account: &str) {
    let (stream, name) = ("TRANSACTION", "deposit-consumer");
    let deliveries = async || {
        broker::consumer(jetstream, stream, name).await.cached_info().delivered.consumer_sequence
    };
    let before = deliveries().await;
    stack.fault("transaction-service-*", Fault::Freeze).await;
    add_backlog(stack, jetstream, account, usize::try_from(BACKLOG).unwrap()).await;
    stack.fault("transaction-service-*", Fault::Thaw).await;
    none_pending(stack, seconds(60)).await;
    assert_eq!(deliveries().await - before, u64::from(BACKLOG));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pause_is_longer_than_ten_seconds_when_the_node_that_leads_is_gone_for_ever() {
    let (stack, client, account) = start_cluster("leader-gone").await;
    let jetstream = broker::connect(&stack).await;
    full_fetches_lose_no_message(&stack, &jetstream, &account).await;
    let info = broker::stream(&jetstream, "TRANSACTION").await;
    let leader = info.cluster.unwrap().leader.unwrap();
    stack.fault(&leader, Fault::Hold).await;
    let (outage, mut longest, mut deposited) = (Instant::now(), Duration::ZERO, 1 + BACKLOG);
    while outage.elapsed() < seconds(size(60, 15)) {
        let begun = Instant::now();
        let response = client.deposit(&account, "1").await;
        let settled = client.settled(response.text("recordId")).await;
        assert_eq!(settled.text("status"), "SUCCESS");
        longest = longest.max(begun.elapsed());
        deposited += 1;
    }
    println!("{leader} down: {deposited} deposits in sequence, the longest took {longest:.2?}");
    // The cluster elects a leader within 4 to 9 s. A busy machine takes longer.
    assert!(longest < seconds(size(10, 20)), "{longest:?}");
    assert_eq!(client.account(&account).await.text("balance"), deposited.to_string());
    invariants::assert_verified(&stack).await;
}

/// Two empty nodes could begin a cluster anew, which the third would never join.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_lost_two_of_three_stores_goes_on_with_the_third() {
    let (stack, client, account) = start_cluster("stores-lost").await;
    stack.fault("nats-0", Fault::Hold).await;
    for node in ["nats-1", "nats-2"] {
        stack.fault(node, Fault::Wipe).await;
    }
    // Nodes that begin anew have a leader after 4 to 9 s.
    tokio::time::sleep(seconds(15)).await;
    let accepted = client.movement("deposits", &account, "1", &new_key(), None).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    stack.fault("nats-0", Fault::Release).await;
    let took = none_pending(&stack, seconds(60)).await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    println!("two of three stores lost: nothing PENDING {took:.1?} after the third was back");
    assert_eq!(client.account(&account).await.text("balance"), "3");
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
async fn a_network_that_goes_silent_in_the_middle_costs_no_delivery_and_no_money() {
    let outage = seconds(size(60, 12));
    let disruptions = vec![
        lasting(seconds(3), "transaction-service-0/postgres", Fault::Silence, Fault::Pass, outage),
        lasting(seconds(4), "account-service-1/nats", Fault::Silence, Fault::Pass, outage),
    ];
    let report = under_load("a silent network", false, disruptions).await;
    assert!(report.accepted > 100, "{}", report.accepted);
}

#[tokio::test]
async fn with_its_disk_full_postgresql_takes_nothing_and_goes_on_once_there_is_room() {
    let Some(disk) = SmallDisk::mount("disk-full").await else {
        println!("skipped: only root can mount a small disk here");
        return;
    };
    let stack = disk.start(&["--port", "0", "--faults"]).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    stack.fault("transaction-service-*", Fault::Hold).await;
    deposits(&client, &account, 50).await;
    disk.fill(&stack);
    stack.fault("transaction-service-*", Fault::Release).await;
    let key = eventually("a request is rejected", seconds(60), || async {
        let key = new_key();
        let response = client.movement("deposits", &account, "1", &key, None).await;
        match response.status {
            202 => None,
            503 => Some(key),
            other => panic!("{other}: {response:?}"),
        }
    })
    .await;
    // Long enough for several redeliveries, if the full disk cost any.
    tokio::time::sleep(seconds(10)).await;
    disk.make_room(&stack);
    let response: Response = eventually("a request is accepted again", seconds(60), || async {
        let response = client.movement("deposits", &account, "1", &key, Some(10)).await;
        (response.status == 200).then_some(response)
    })
    .await;
    assert_eq!(response.text("status"), "SUCCESS");
    none_pending(&stack, seconds(60)).await;
    let jetstream = broker::connect(&stack).await;
    assert_eq!(broker::dead_letters(&jetstream).await, []);
    invariants::assert_verified(&stack).await;
}
