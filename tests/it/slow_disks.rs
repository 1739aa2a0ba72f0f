//! Disks on which each `fsync` takes long: of PostgreSQL, and of a broker that writes each message
//! to disk before its PubAck. Everything is slow then, and nothing fails.

use std::{collections::BTreeMap, fs, time::Duration};

use futures::{StreamExt, stream};
use tests::{
    Client, Response, broker, client::new_key, eventually, invariants, scale::size,
    slow_disk::SlowDisk,
};

const CLIENTS: usize = 32;

/// One deposit after the other by each client, for this time. Gives the responses.
async fn load(client: &Client, account: &str, time: Duration) -> Vec<Response> {
    let begun = tokio::time::Instant::now();
    let clients = stream::iter(0..CLIENTS).map(|_| async move {
        let mut responses = Vec::new();
        while begun.elapsed() < time {
            let deposit = client.movement("deposits", account, "1", &new_key(), Some(10)).await;
            responses.push(deposit);
        }
        responses
    });
    clients.buffer_unordered(CLIENTS).concat().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_200_ms_for_each_fsync_of_postgresql_everything_settles_and_no_limit_is_met() {
    everything_settles("slow-postgresql", "1").await;
}

/// Such a cluster writes each message to disk on two nodes before its PubAck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_200_ms_for_each_fsync_of_a_cluster_too_everything_settles_and_no_limit_is_met() {
    everything_settles("slow-cluster", "3").await;
}

async fn everything_settles(name: &str, nodes: &str) {
    let disk = SlowDisk(Duration::from_millis(200));
    let arguments = ["--port", "0", "--nats-nodes", nodes, "--report-replicas", "0"];
    let stack = disk.start(name, &arguments).await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let responses =
        load(&client, &account, size(Duration::from_secs(60), Duration::from_secs(8))).await;
    let mut statuses = BTreeMap::new();
    for response in &responses {
        *statuses.entry(response.status).or_insert(0_u32) += 1;
    }
    println!("responses by status: {statuses:?}");
    // 202: not settled within ten seconds.
    assert!(statuses.keys().all(|status| [200, 202].contains(status)), "{statuses:?}");
    assert!(statuses.contains_key(&200), "{statuses:?}");
    for response in &responses {
        let settled = client.settled(response.text("recordId")).await;
        assert_eq!(settled.text("status"), "SUCCESS", "{settled:?}");
    }
    let deposited = u64::try_from(responses.len()).unwrap();
    invariants::holds(&stack.ledger().await, "accounts", &account, deposited).await.unwrap();
    let jetstream = broker::connect(&stack).await;
    for (stream, consumer) in
        [("TRANSACTION", "deposit-consumer"), ("TRANSACTION_RESULT", "account-result-consumer")]
    {
        eventually("all messages are acked", Duration::from_secs(30), || async {
            let (unacked, redelivered) = broker::unacked(&jetstream, stream, consumer).await;
            assert_eq!(redelivered, 0, "{consumer}: a slow disk uses up no delivery");
            (unacked == 0).then_some(())
        })
        .await;
    }
    assert_eq!(broker::dead_letters(&jetstream).await.len(), 0);
    invariants::assert_verified(&stack).await;
    // SQLSTATE or text of each limit: a statement, a lock, an idle transaction, a call.
    let limits = ["canceling statement", "idle-in-transaction", "no answer from the"];
    // As a number of its own: the fraction of a time can have the same digits.
    let sqlstate = |line: &str| line.split(|c: char| !c.is_ascii_digit()).any(|n| n == "57014");
    for log in fs::read_dir(stack.dir.join("logs")).unwrap() {
        let log = log.unwrap().path();
        let text = fs::read_to_string(&log).unwrap();
        let met: Vec<_> = text
            .lines()
            .filter(|line| sqlstate(line) || limits.iter().any(|limit| line.contains(limit)))
            .collect();
        assert!(met.is_empty(), "{}: {met:#?}", log.display());
    }
    SlowDisk::kill(stack);
}
