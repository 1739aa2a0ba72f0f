//! What must hold while something is broken, under load, with two replicas of
//! each service. `make reliability` runs these at the size that RELIABILITY.md
//! promises; `make test` smaller.

use std::time::{Duration, Instant};

use async_nats::jetstream::{
    Context,
    consumer::{Consumer, pull},
};
use devstack::Fault;
use futures::{StreamExt, stream};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tests::{
    Answer, Client, Stack, broker,
    chaos::{self, Chaos, Report, Trouble, What},
    checks,
    client::new_key,
    eventually,
    memory::Memory,
    scale::size,
    stack::{self, folder},
};
use uuid::Uuid;

const CLIENTS: usize = 16;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn once(at: Duration, on: &str, fault: Fault) -> Trouble {
    let on = on.to_owned();
    Trouble { at, what: What::Fault { on, fault, undo: None }, lasts: None }
}

fn lasting(at: Duration, on: &str, fault: Fault, undo: Fault, lasts: Duration) -> Trouble {
    let on = on.to_owned();
    Trouble { at, what: What::Fault { on, fault, undo: Some(undo) }, lasts: Some(lasts) }
}

async fn under_load(name: &str, cluster: bool, troubles: Vec<Trouble>) -> Report {
    let chaos = Chaos { name: name.to_owned(), troubles, clients: CLIENTS, cluster };
    let report = chaos::run(&chaos, &folder(&name.replace(' ', "-")), false).await;
    report.print(&chaos);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    report
}

/// That after each trouble that met no other a deposit settled in time. Beside
/// other tests everything takes longer.
fn back_within(report: &Report, most: Duration) {
    let most = most * size(1, 3);
    for recovery in report.recoveries.iter().filter(|it| it.alone) {
        assert!(recovery.took <= most, "{recovery:?}");
    }
    assert!(report.recoveries.iter().any(|it| it.alone), "{:?}", report.recoveries);
}

fn every_answer_is(report: &Report, statuses: &[u16]) {
    let odd: Vec<_> = report.answers.iter().filter(|(it, _)| !statuses.contains(it)).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

/// Deposits of 1 each, many at a time; every one must be accepted.
async fn deposits(client: &Client, account: &str, count: u32) {
    stream::iter(0..count)
        .for_each_concurrent(64, |_| async {
            let answer = client.movement("deposits", account, "1", &new_key(), None).await;
            assert_eq!(answer.status, 202, "{answer:?}");
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

async fn nothing_is_pending(stack: &Stack, within: Duration) -> Duration {
    let begun = Instant::now();
    eventually("nothing is PENDING", within, || async {
        let left = pending(stack).await;
        // To count many is work that is missing elsewhere.
        tokio::time::sleep(Duration::from_millis(u64::try_from(left / 100).unwrap())).await;
        (left == 0).then_some(())
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
    let troubles = kills.map(|(on, turn)| once(seconds(turn * 7), on, Fault::Kill)).collect();
    let report = under_load("killed again and again", false, troubles).await;
    // A second until the restart, and five to serve again.
    back_within(&report, seconds(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pending_records_settle_though_the_broker_lost_everything() {
    let count = size(10_000, 2000);
    let dir = folder("wiped");
    let stack = Stack::start_in(&dir, &["--port", "0", "--faults"]).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    stack.fault("transaction-service-*", Fault::Hold).await;
    deposits(&client, &account, count).await;
    assert_eq!(pending(&stack).await, i64::from(count));
    stack.fault("nats", Fault::Wipe).await;
    stack.fault("transaction-service-*", Fault::Release).await;
    let took = nothing_is_pending(&stack, seconds(60)).await;
    println!("{count} PENDING records settled {took:.1?} after the broker lost everything");
    assert_eq!(client.account(&account).await.text("balance"), count.to_string());
    checks::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deposits_are_accepted_while_the_broker_is_down_and_settle_afterwards() {
    let away = seconds(size(60, 10));
    let troubles = vec![lasting(seconds(8), "nats", Fault::Hold, Fault::Release, away)];
    let report = under_load("NATS away", false, troubles).await;
    every_answer_is(&report, &[200, 202]);
    back_within(&report, seconds(10));
    for (name, most) in &report.memory {
        assert!(*most < 64, "{name} had {most} MiB");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_ledgers_database_costs_no_delivery_and_makes_no_dead_letter() {
    let away = seconds(size(60, 10));
    let dir = folder("ledger-away");
    let stack = Stack::start_in(&dir, &["--port", "0", "--faults"]).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    deposits(&client, &account, 200).await;
    stack.fault("transaction-service-*/postgres", Fault::Refuse).await;
    let begun = Instant::now();
    let mut accepted = 200;
    while begun.elapsed() < away {
        deposits(&client, &account, 20).await;
        accepted += 20;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(pending(&stack).await > 0);
    stack.fault("transaction-service-*/postgres", Fault::Pass).await;
    let back = Instant::now();
    let next = client.deposit(&account, "1").await;
    println!("ledger back: a deposit settled after {:.2?}", back.elapsed());
    assert!(back.elapsed() < seconds(size(5, 15)), "{:?}", back.elapsed());
    assert_eq!(next.text("status"), "SUCCESS");
    let took = nothing_is_pending(&stack, seconds(30)).await;
    println!("{accepted} deposits, settled {took:.2?} after that");
    let jetstream = broker::connect(&stack).await;
    assert_eq!(broker::dead_letters(&jetstream).await, []);
    assert_eq!(broker::stream(&jetstream, "USED_UP").await.state.last_sequence, 0);
    let consumer: Consumer<pull::Config> =
        jetstream.get_consumer_from_stream("deposit-consumer", "TRANSACTION").await.unwrap();
    let delivered = &consumer.cached_info().delivered;
    // Every message once: waiting used up no delivery.
    assert_eq!(delivered.consumer_sequence, delivered.stream_sequence);
    assert_eq!(client.account(&account).await.text("balance"), (accepted + 1).to_string());
    checks::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_account_database_is_down_requests_get_503_and_results_wait() {
    let dir = folder("accounts-away");
    let stack = Stack::start_in(&dir, &["--port", "0", "--faults"]).await;
    let client = Client::teller_at(&stack, "account-service-0");
    let account = client.open_account("KRW").await;
    // Their results arrive while nobody can write them down.
    stack.fault("transaction-service-*", Fault::Freeze).await;
    deposits(&client, &account, 50).await;
    stack.fault("account-service-*/postgres", Fault::Refuse).await;
    stack.fault("transaction-service-*", Fault::Thaw).await;
    let (key, begun) = (new_key(), Instant::now());
    let refused = stream::iter(0..16).for_each_concurrent(16, |_| async {
        while begun.elapsed() < seconds(size(60, 8)) {
            let answer = client.movement("deposits", &account, "7", &key, None).await;
            assert_eq!((answer.status, answer.problem()), (503, "unavailable"), "{answer:?}");
            let again = answer.header("retry-after").unwrap().parse::<u32>().unwrap();
            assert!((1..=60).contains(&again), "{again}");
        }
    });
    refused.await;
    assert_eq!(pending(&stack).await, 50);
    stack.fault("account-service-*/postgres", Fault::Pass).await;
    let took = nothing_is_pending(&stack, seconds(size(10, 30))).await;
    println!("the waiting results were settled {took:.2?} after its return");
    let answer = eventually("it serves again", seconds(size(5, 15)), || async {
        let answer = client.movement("deposits", &account, "7", &key, Some(10)).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    // Nothing of the refused requests was stored.
    assert_eq!(answer.header("idempotent-replayed"), None);
    assert_eq!(answer.text("balanceAfter"), "57");
    let jetstream = broker::connect(&stack).await;
    assert_eq!(broker::dead_letters(&jetstream).await, []);
    checks::assert_verified(&stack).await;
}

/// Cut short, of another kind, or with an amount that is none.
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
    let (good, bad) = size((10_000, 1000), (2000, 200));
    let dir = folder("poison");
    let stack = Stack::start_in(&dir, &["--port", "0", "--faults"]).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    let mut took = Vec::new();
    for poison in [0, bad] {
        stack.fault("transaction-service-*", Fault::Hold).await;
        let every = good / bad;
        let (jetstream, client, account) = (&jetstream, &client, &account);
        let all = (0..good).map(|at| async move {
            deposits(client, account, 1).await;
            if at % every == 0 && at / every < poison {
                let body = not_a_command(at / every, account);
                broker::publish(jetstream, "transaction.deposit", &new_key(), body).await;
            }
        });
        stream::iter(all).buffer_unordered(64).collect::<Vec<_>>().await;
        let begun = Instant::now();
        stack.fault("transaction-service-*", Fault::Release).await;
        nothing_is_pending(&stack, seconds(60)).await;
        took.push(begun.elapsed());
    }
    eventually("every poison message is a dead letter", seconds(30), || async {
        let letters = broker::stream(&jetstream, "DEAD_LETTER").await.state.messages;
        (letters == u64::from(bad)).then_some(())
    })
    .await;
    let letters = broker::dead_letters(&jetstream).await;
    assert!(letters.iter().all(|(_, reason)| reason.starts_with("not a command: ")), "{letters:?}");
    println!(
        "{good} good ones: {:.2?}; with {bad} poison ones among them: {:.2?}",
        took[0], took[1]
    );
    // The small ones take less than a second each: other tests beside them weigh more.
    assert!(took[1] < took[0] * size(2, 5), "{took:?}");
    assert_eq!(client.account(&account).await.text("balance"), (good * 2).to_string());
    checks::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_without_its_leader_and_without_a_node_that_is_gone_for_ever() {
    let troubles = vec![
        Trouble { at: seconds(3), what: What::StepDown("TRANSACTION"), lasts: None },
        lasting(seconds(8), "nats-2", Fault::Hold, Fault::Release, seconds(8)),
        once(seconds(26), "nats-1", Fault::Wipe),
        // Cut off from the others, with its clients still on it.
        lasting(seconds(38), "*nats-0*", Fault::Refuse, Fault::Pass, seconds(8)),
    ];
    let report = under_load("a cluster", true, troubles).await;
    back_within(&report, seconds(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pause_is_longer_than_ten_seconds_when_the_node_that_leads_is_gone_for_ever() {
    let dir = folder("leader-gone");
    let nodes = ["--port", "0", "--faults", "--nats-nodes", "3"];
    let stack = Stack::start_in(&dir, &nodes).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    let jetstream = broker::connect(&stack).await;
    let info = broker::stream(&jetstream, "TRANSACTION").await;
    let leader = info.cluster.unwrap().leader.unwrap();
    stack.fault(&leader, Fault::Hold).await;
    let (gone, mut longest, mut deposited) = (Instant::now(), Duration::ZERO, 1_u32);
    while gone.elapsed() < seconds(size(60, 15)) {
        let begun = Instant::now();
        let answer = client.deposit(&account, "1").await;
        let settled = client.settled(answer.text("recordId")).await;
        assert_eq!(settled.text("status"), "SUCCESS");
        longest = longest.max(begun.elapsed());
        deposited += 1;
    }
    println!("{leader} gone: {deposited} deposits one after the other, the longest {longest:.2?}");
    // The server elects a leader after 4 to 9 s; a busy machine adds to it.
    assert!(longest < seconds(size(10, 20)), "{longest:?}");
    assert_eq!(client.account(&account).await.text("balance"), deposited.to_string());
    checks::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_backlog() {
    let count = size(1_000_000, 40_000);
    let mut most = Vec::new();
    // Enough of them a thousand at a time that every buffer was as full as it gets.
    for (rounds, waiting) in [(40, 1000), (1, count)] {
        let dir = folder(&format!("backlog-{waiting}"));
        let stack = Stack::start_in(&dir, &["--port", "0", "--faults"]).await;
        let account = Client::teller(&stack).open_account("KRW").await;
        let jetstream = broker::connect(&stack).await;
        let memory = Memory::start(&stack);
        for _ in 0..rounds {
            stack.fault("transaction-service-*", Fault::Freeze).await;
            leave_commands(&stack, &jetstream, &account, waiting).await;
            stack.fault("transaction-service-*", Fault::Thaw).await;
            nothing_is_pending(&stack, seconds(1800)).await;
        }
        let now: Vec<_> = memory.finish().await.into_iter().collect();
        println!("{waiting} commands waiting, {rounds} times: MiB at most {now:?}");
        most.push(now);
        checks::assert_verified(&stack).await;
    }
    for ((name, few), (_, many)) in most[0].iter().zip(&most[1]) {
        assert!(many * 10 <= few * 12, "{name}: {few} MiB with 1,000 waiting, {many} with many");
    }
}

/// Records and their commands, as many requests would leave them.
async fn leave_commands(stack: &Stack, jetstream: &Context, account: &str, count: usize) {
    let mut accounts = PgConnection::connect(&stack.file().databases.account).await.unwrap();
    let records: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    for part in records.chunks(10_000) {
        // Not due for the redrive: their commands are in the stream.
        sqlx::query(
            "INSERT INTO transaction_records
                 (id, account_id, idempotency_key, request_hash, user_id, type, amount,
                  currency, redrive_at)
             SELECT id, $2, id::text, '', 'teller', 'DEPOSIT', 1, 'KRW', now() + interval '1 hour'
             FROM unnest($1::uuid[]) AS id",
        )
        .bind(part)
        .bind(Uuid::parse_str(account).unwrap())
        .execute(&mut accounts)
        .await
        .unwrap();
    }
    let publish = |record: &Uuid| {
        let id = record.to_string();
        let command = json!({
            "recordId": id, "accountId": account, "userId": "teller", "type": "DEPOSIT",
            "amount": "1", "currency": "KRW", "requestedAt": "2026-01-02T03:04:05Z",
        });
        async move {
            broker::publish(jetstream, "transaction.deposit", &id, command.to_string()).await;
        }
    };
    stream::iter(&records).for_each_concurrent(1000, publish).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_goes_silent_in_the_middle_costs_no_delivery_and_no_money() {
    let silent = seconds(size(60, 12));
    let troubles = vec![
        lasting(seconds(3), "transaction-service-0/postgres", Fault::Silence, Fault::Pass, silent),
        lasting(seconds(4), "account-service-1/nats", Fault::Silence, Fault::Pass, silent),
    ];
    let report = under_load("a silent network", false, troubles).await;
    assert!(report.accepted > 100, "{}", report.accepted);
}

#[tokio::test]
async fn with_its_disk_full_postgresql_takes_nothing_and_goes_on_once_there_is_room() {
    let Some(disk) = stack::SmallDisk::mount("disk-full").await else {
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
    let key = eventually("it is refused", seconds(60), || async {
        let key = new_key();
        let answer = client.movement("deposits", &account, "1", &key, None).await;
        match answer.status {
            202 => None,
            503 => Some(key),
            other => panic!("{other}: {answer:?}"),
        }
    })
    .await;
    // As long as a few deliveries would take, if the commands were blamed for it.
    tokio::time::sleep(seconds(10)).await;
    disk.make_room(&stack);
    let answer: Answer = eventually("it is taken again", seconds(60), || async {
        let answer = client.movement("deposits", &account, "1", &key, Some(10)).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.text("status"), "SUCCESS");
    nothing_is_pending(&stack, seconds(60)).await;
    let jetstream = broker::connect(&stack).await;
    assert_eq!(broker::dead_letters(&jetstream).await, []);
    checks::assert_verified(&stack).await;
}
