//! A server's host vanishes without a packet: open connections stay silent for ever, and
//! new ones pass. Everything is back within 30 s, without a restart.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use devstack::Fault;
use futures::{StreamExt, stream};
use tests::{Client, Stack, client::new_key, eventually, invariants, scale::size, stack::folder};

use crate::reports::statement;

const SERVICES: [&str; 3] = ["account-service-0", "transaction-service-0", "report-service-0"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The limit is 30 s. At small size, other tests run concurrently.
fn back_within() -> Duration {
    seconds(size(30, 45))
}

/// One replica of each service: no other one hides an outage.
async fn single_replicas(name: &str) -> Stack {
    let mut arguments = vec!["--port", "0", "--faults"];
    for service in ["--account-replicas", "--transaction-replicas", "--report-replicas"] {
        arguments.extend([service, "1"]);
    }
    Stack::start_in(&folder(name), &arguments).await
}

/// Deposits and reads by 32 clients, until `done`. Responses of an outage are ignored.
async fn load(client: &Client, account: &str, done: &AtomicBool) {
    stream::iter(0..32)
        .for_each_concurrent(32, |_| async {
            while !done.load(Ordering::Relaxed) {
                let _ = client.try_movement("deposits", account, "1", &new_key(), None).await;
            }
        })
        .await;
}

async fn deposit_settles(client: &Client, account: &str) -> Option<()> {
    let deposit = client.try_movement("deposits", account, "1", &new_key(), Some(5)).await;
    (deposit.is_ok_and(|response| response.status == 200)).then_some(())
}

/// Each service settles a deposit or makes a report, and is ready.
async fn all_serve(stack: &Stack, client: &Client, account: &str) {
    let begun = Instant::now();
    eventually("a deposit settles", back_within(), || deposit_settles(client, account)).await;
    let settled = begun.elapsed();
    let rest = || back_within().saturating_sub(begun.elapsed());
    eventually("a report is made", rest(), || async {
        let response = client.report(&statement(account, &["csv"]), 5).await;
        (response.body["state"] == "SUCCEEDED").then_some(())
    })
    .await;
    let reported = begun.elapsed();
    for service in SERVICES {
        eventually("the replica is ready", rest(), || async {
            ready(stack, service).await.then_some(())
        })
        .await;
    }
    println!("a deposit settled after {settled:.1?}, a report was made after {reported:.1?}");
}

async fn ready(stack: &Stack, service: &str) -> bool {
    let admin = stack.file().processes.into_iter().find(|process| process.name == service);
    let url = format!("{}/readyz", admin.unwrap().admin.unwrap());
    reqwest::get(url).await.is_ok_and(|response| response.status().is_success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_servers_host_vanished_every_service_is_back_within_30_seconds() {
    let stack = single_replicas("vanished").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let done = AtomicBool::new(false);
    let rounds = size(5, 1);
    let vanish = async {
        for (server, round) in (0..rounds).flat_map(|_| ["postgres", "nats"]).zip(1..) {
            tokio::time::sleep(seconds(2)).await;
            stack.fault(&format!("*/{server}"), Fault::Vanish).await;
            println!("round {round}: the host of {server} vanished");
            all_serve(&stack, &client, &account).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&client, &account, &done), vanish);
    invariants::assert_verified(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_loses_one_direction_costs_no_money() {
    let stack = single_replicas("one-direction").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    let done = AtomicBool::new(false);
    let lose = async {
        for server in ["postgres", "nats"] {
            for fault in [Fault::SilenceRequests, Fault::SilenceResponses] {
                let link = format!("*/{server}");
                stack.fault(&link, fault).await;
                tokio::time::sleep(seconds(size(60, 2))).await;
                stack.fault(&link, Fault::Pass).await;
                println!("{fault:?} of {server} ended");
                all_serve(&stack, &client, &account).await;
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&client, &account, &done), lose);
    invariants::assert_verified(&stack).await;
}
