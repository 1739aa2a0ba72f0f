//! A cluster of three brokers that loses nodes, for a time or for ever.

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use devstack::Fault;
use tests::{
    Client, Stack, broker,
    chaos::{Action, Disruption},
    client::new_key,
    invariants,
    scale::size,
    stack::initialized_folder,
};

use super::{
    add_backlog, assert_recovered_within, lasting, none_pending, once, seconds, under_load,
};

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
