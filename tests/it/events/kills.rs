//! Consumers get every event once and in order by each of the three ways, while replicas are
//! killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use nix::sys::signal::Signal;
use rand::{
    RngExt, SeedableRng,
    rngs::Xoshiro256PlusPlus as Random,
    seq::{IndexedRandom, IteratorRandom},
};
use runtime::postgres::PgPool;
use serde_json::Value;
use tests::{
    Client, Stack,
    client::new_key,
    eventually, invariants,
    process::signal,
    scale::{self, size},
    stack::initialized_folder,
};
use tokio::time::{Instant, sleep};

use super::{
    consumers::{LogLength, by_pages, by_streams, by_webhooks, count_stored},
    text,
};
use crate::webhooks::{
    Endpoint,
    receiver::{Receiver, SILENT},
};

const CLIENTS: usize = 32;
const ACCOUNTS: usize = 12;
/// The time limit of a request of the movers.
const TIMEOUT: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(90);
/// Without limits of the rate: all events are of one merchant.
const SETTINGS: [&str; 2] = ["PASSBOOK_CUSTOMER_RATE_LIMIT=0", "PASSBOOK_WEBHOOK_TIMEOUT=2s"];
/// Names the seed of a run that is repeated.
const SEED: &str = "PASSBOOK_TESTS_SEED";

/// What was done so far, and how much of it is wanted.
#[derive(Debug, Default)]
struct Progress {
    accepted: AtomicUsize,
    rounds: AtomicUsize,
}

impl Progress {
    fn is_over(&self) -> bool {
        self.accepted.load(Ordering::Relaxed) >= size(10_000, 320)
            && self.rounds.load(Ordering::Relaxed) >= size(5, 1)
    }
}

/// An event of the log, without what only the API shows.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Entry {
    account: String,
    sequence: i64,
    kind: String,
    record: Option<String>,
    account_seq: Option<i64>,
}

impl Entry {
    fn of(event: &Value) -> Self {
        Self {
            account: text(event, "accountId").to_owned(),
            sequence: event["sequence"].as_i64().unwrap(),
            kind: text(event, "type").to_owned(),
            record: event["data"]["recordId"].as_str().map(str::to_owned),
            account_seq: event["accountSeq"].as_i64(),
        }
    }
}

/// The log as it is stored.
async fn log(accounts: &PgPool) -> Vec<Entry> {
    sqlx::query_as(
        "SELECT e.account_id::text AS account, sequence, record_id::text AS record, account_seq,
                CASE e.type WHEN 1 THEN 'account.created' WHEN 2 THEN 'record.succeeded'
                            WHEN 3 THEN 'record.failed' END AS kind
         FROM events AS e LEFT JOIN transaction_records ON id = record_id ORDER BY position",
    )
    .fetch_all(accounts)
    .await
    .unwrap()
}

/// Moves money until it is over. Gives the accepted records.
async fn mover(
    client: Client,
    accounts: &[String],
    mut random: Random,
    progress: &Progress,
) -> Vec<String> {
    let mut records = Vec::new();
    while !progress.is_over() {
        let account = accounts.choose(&mut random).unwrap();
        let (resource, amount) =
            if random.random_bool(0.6) { ("deposits", "1") } else { ("withdrawals", "3") };
        let key = new_key();
        let record = eventually("a movement is accepted", SOON, || async {
            let sent = client.try_movement(resource, account, amount, &key, None).await.ok()?;
            let accepted = matches!(sent.status, 200 | 202);
            accepted.then(|| sent.text("recordId").to_owned())
        })
        .await;
        records.push(record);
        progress.accepted.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(random.random_range(size(0..=0, 200..=600)))).await;
    }
    records
}

/// Kills replicas in rounds, until it is over: one of each money service, and one or both of the
/// webhook-service while their requests wait for an answer, or fail.
async fn killer(
    stack: &Stack,
    receiver: &Receiver,
    accounts: &PgPool,
    mut random: Random,
    progress: &Progress,
) {
    while !progress.is_over() {
        let mut killed = Vec::new();
        for service in ["account-service", "transaction-service"] {
            sleep(Duration::from_millis(random.random_range(50..400))).await;
            killed.push(kill(stack, service, random.random_range(0..2)));
        }
        receiver.answer(*[SILENT, SILENT, 500, 502].choose(&mut random).unwrap());
        sleep(Duration::from_millis(random.random_range(50..400))).await;
        let number = random.random_range(1..=2);
        for replica in (0..2).sample(&mut random, number) {
            killed.push(kill(stack, "webhook-service", replica));
        }
        receiver.answer(204);
        for (name, before) in killed {
            stack.restarted(&name, before, SOON).await;
            stack.replica_ready(&name).await;
        }
        later(accounts).await;
        progress.rounds.fetch_add(1, Ordering::Relaxed);
    }
}

fn kill(stack: &Stack, service: &str, replica: usize) -> (String, u32) {
    let name = format!("{service}-{replica}");
    let before = stack.pid(&name);
    signal(before, Signal::SIGKILL);
    (name, before)
}

/// Makes it five minutes later for webhooks: leases of killed replicas and pauses after failures
/// have ended.
async fn later(accounts: &PgPool) {
    let later = "UPDATE webhook_endpoints
                 SET lease_until = lease_until - interval '5 minutes',
                     not_before = not_before - interval '5 minutes',
                     retry_at = retry_at - interval '5 minutes';
                 UPDATE webhook_deliveries
                 SET next_attempt_at = next_attempt_at - interval '5 minutes'";
    sqlx::raw_sql(later).execute(accounts).await.unwrap();
}

/// Waits until the receiver has stored this many events.
async fn delivered(receiver: &Receiver, accounts: &PgPool, events: usize) {
    let begun = Instant::now();
    while count_stored(receiver) < events {
        let stored = count_stored(receiver);
        assert!(begun.elapsed() < SOON, "the receiver has {stored} of {events} events");
        later(accounts).await;
        sleep(Duration::from_secs(1)).await;
    }
}

/// Checks that a consumer has seen the log: nothing is missing, nothing is twice.
fn assert_seen(consumer: &str, seen: &[Entry], log: &[Entry]) {
    let show = |entry: Option<&Entry>| entry.map_or("nothing".to_owned(), |e| format!("{e:?}"));
    let different = (0..seen.len().max(log.len())).find(|at| seen.get(*at) != log.get(*at));
    if let Some(at) = different {
        let (seen, expected) = (show(seen.get(at)), show(log.get(at)));
        panic!("{consumer} saw {seen} at {at}, where the log has {expected}");
    }
}

fn by_account(entries: Vec<Entry>) -> BTreeMap<String, Vec<Entry>> {
    let mut accounts = BTreeMap::<_, Vec<_>>::new();
    for entry in entries {
        accounts.entry(entry.account.clone()).or_default().push(entry);
    }
    accounts
}

fn assert_same<T: Debug + Ord>(what: &str, one: &BTreeSet<T>, other: &BTreeSet<T>) {
    let different: Vec<_> = one.symmetric_difference(other).take(3).collect();
    assert!(different.is_empty(), "{what}: {} and {}, as {different:?}", one.len(), other.len());
}

/// Checks that the log has the movements that the ledger has decided and the clients have sent,
/// and numbers those of each account without a gap.
async fn assert_complete(stack: &Stack, log: &[Entry], sent: BTreeSet<String>) {
    let mut last = BTreeMap::new();
    for entry in log {
        let last = last.entry(&entry.account).or_insert(0);
        *last += 1;
        assert_eq!(entry.sequence, *last, "{entry:?}");
    }
    let movements = log.iter().filter_map(|entry| {
        Some((entry.record.clone()?, entry.account.clone(), entry.account_seq))
    });
    let movements: BTreeSet<_> = movements.collect();
    let decided: Vec<(String, String, Option<i64>)> =
        sqlx::query_as("SELECT record_id::text, account_id::text, account_seq FROM transactions")
            .fetch_all(&stack.ledger().await)
            .await
            .unwrap();
    assert_same("log and ledger", &movements, &decided.into_iter().collect());
    let records = movements.into_iter().map(|(record, ..)| record).collect();
    assert_same("log and clients", &records, &sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_miss_nothing_by_any_of_the_three_ways_while_replicas_are_killed() {
    let seed = std::env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let mut seeds = Random::seed_from_u64(seed);
    let mut random = move || Random::from_rng(&mut seeds);
    let mut arguments = vec!["--port", "0", "--webhook-replicas", "2"];
    arguments.extend(scale::full().then_some("--release"));
    let folder = initialized_folder("events-kills").await;
    let stack = Stack::start_under(&folder, &SETTINGS.map(str::to_owned), &arguments).await;

    let client = |caller: Client| Client::with_timeout(&stack.file().api, caller.token(), TIMEOUT);
    let merchant = client(Client::merchant(&stack, "ann"));
    let teller = client(Client::teller(&stack));
    let receiver = Receiver::start().await;
    let endpoint = Endpoint::create(&merchant, &receiver).await;
    let mut accounts = Vec::new();
    for _ in 0..ACCOUNTS {
        accounts.push(merchant.open_account("KRW").await);
    }
    let end = LogLength::default();
    let mut readers = Vec::new();
    for (caller, client) in [("merchant", &merchant), ("teller", &teller)] {
        let pages = tokio::spawn(by_pages(client.clone(), random(), end.clone()));
        let streams = tokio::spawn(by_streams(client.clone(), random(), end.clone()));
        readers.push((format!("the {caller} by pages"), pages));
        readers.push((format!("the {caller} by streams"), streams));
    }
    let progress = Progress::default();
    let database = stack.accounts().await;
    let movers = (0..CLIENTS).map(|_| mover(merchant.clone(), &accounts, random(), &progress));
    let movers: Vec<_> = movers.collect();
    let killer = killer(&stack, &receiver, &database, random(), &progress);
    let (sent, ()) = tokio::join!(join_all(movers), killer);
    let sent: BTreeSet<_> = sent.into_iter().flatten().collect();
    eventually("every record is settled", SOON, || async {
        let pending = "SELECT count(*) FROM transaction_records WHERE status = 'PENDING'";
        let pending: i64 = sqlx::query_scalar(pending).fetch_one(&database).await.unwrap();
        (pending == 0).then_some(())
    })
    .await;

    let log = log(&database).await;
    assert_complete(&stack, &log, sent).await;
    end.set(log.len());
    for (consumer, reader) in readers {
        let events = tokio::time::timeout(SOON, reader).await;
        let events = events.unwrap_or_else(|_| panic!("{consumer} does not reach the end"));
        let seen: Vec<_> = events.unwrap().iter().map(Entry::of).collect();
        assert_seen(&consumer, &seen, &log);
    }
    delivered(&receiver, &database, log.len()).await;
    let received: Vec<_> = by_webhooks(&receiver, &endpoint).iter().map(Entry::of).collect();
    let (received, log) = (by_account(received), by_account(log));
    for (account, log) in &log {
        assert_seen("the receiver of webhooks", &received[account], log);
    }
    invariants::assert_verified(&stack).await;
    let deliveries = receiver.deliveries().len();
    println!("{} movements, {deliveries} deliveries", progress.accepted.into_inner());
}
