//! Consumers read every event once and in order, while replicas are killed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use nix::sys::signal::Signal;
use rand::{RngExt, seq::IndexedRandom};
use serde_json::Value;
use tests::{Client, Stack, client::new_key, eventually, invariants, process::signal, scale::size};
use tokio::time::{Instant, timeout_at};

use super::{assert_gapless, text};

const TIMEOUT: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(60);

/// Moves money until it is stopped. Gives the accepted records.
async fn mover(client: Client, accounts: Vec<String>, count: usize) -> Vec<String> {
    let mut records = Vec::new();
    for _ in 0..count {
        let account = accounts.choose(&mut rand::rng()).unwrap();
        let (resource, amount) =
            if rand::rng().random_bool(0.6) { ("deposits", "1") } else { ("withdrawals", "3") };
        let key = new_key();
        let record = eventually("a movement is accepted", SOON, || async {
            let sent = client.try_movement(resource, account, amount, &key, None).await.ok()?;
            let accepted = matches!(sent.status, 200 | 202);
            accepted.then(|| sent.text("recordId").to_owned())
        })
        .await;
        records.push(record);
    }
    records
}

/// Reads pages until all is read after `done`.
async fn page_reader(client: Client, done: Arc<AtomicBool>) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let was_done = done.load(Ordering::Relaxed);
        let limit = rand::rng().random_range(1..=100);
        let path = format!("/v1/events?limit={limit}{after}");
        let Ok(page) = client.send(reqwest::Method::GET, &path, &[], None).await else { continue };
        if page.status != 200 {
            assert!(page.status >= 500, "{page:?}");
            continue;
        }
        events.extend(super::items(&page).iter().cloned());
        // Read again after a lost response: the cursor of a consumer is kept with its effects.
        after = format!("&after={}", page.text("nextCursor"));
        if page.body["hasMore"] == false {
            if was_done {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Reads streams, each for a short time, until all is read after `done`.
async fn stream_reader(
    client: Client,
    done: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let last = events.last().map(|event| text(event, "id").to_owned());
        let mut stream = match client.follow("", last.as_deref()).await {
            Ok(stream) => stream,
            Err(Some(refused)) if refused.status < 500 => panic!("{refused:?}"),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let until = Instant::now() + Duration::from_millis(rand::rng().random_range(1..1500));
        while let Ok(Some(event)) = timeout_at(until, stream.next()).await {
            events.push(event);
        }
        if done.load(Ordering::Relaxed) && events.len() >= count.load(Ordering::Relaxed) {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_miss_nothing_while_replicas_are_killed() {
    let stack = Stack::start("events-kills").await;
    let file = stack.file();
    let client = Client::with_timeout(&file.api, &file.tokens.teller, TIMEOUT);
    let mut accounts = Vec::new();
    for _ in 0..10 {
        accounts.push(client.open_account("KRW").await);
    }
    let done = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let mut readers = Vec::new();
    for _ in 0..2 {
        readers.push(tokio::spawn(page_reader(client.clone(), Arc::clone(&done))));
        let streams = stream_reader(client.clone(), Arc::clone(&done), Arc::clone(&count));
        readers.push(tokio::spawn(streams));
    }
    let (clients, each) = (size(32, 8), size(312, 40));
    let movers = (0..clients).map(|_| mover(client.clone(), accounts.clone(), each));
    let killer = async {
        for turn in 0..size(10, 3) {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let name = format!("account-service-{}", turn % 2);
            let before = stack.pid(&name);
            signal(before, Signal::SIGKILL);
            stack.restarted(&name, before, SOON).await;
            stack.replica_ready(&name).await;
        }
    };
    let (moved, ()) = tokio::join!(join_all(movers), killer);
    let records: BTreeSet<_> = moved.into_iter().flatten().collect();
    let database = stack.accounts().await;
    eventually("every record is settled", SOON, || async {
        let pending = "SELECT count(*) FROM transaction_records WHERE status = 'PENDING'";
        let pending: i64 = sqlx::query_scalar(pending).fetch_one(&database).await.unwrap();
        (pending == 0).then_some(())
    })
    .await;
    count.store(records.len() + accounts.len(), Ordering::Relaxed);
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let events = tokio::time::timeout(SOON, reader).await.unwrap().unwrap();
        assert_gapless(&events);
        let of_records = events.iter().filter(|event| event["type"] != "account.created");
        let seen: Vec<_> = of_records.map(|event| text(&event["data"], "recordId")).collect();
        let unique: BTreeSet<_> = seen.iter().map(|record| (*record).to_owned()).collect();
        assert_eq!((seen.len(), &unique), (unique.len(), &records));
    }
    invariants::assert_verified(&stack).await;
}
