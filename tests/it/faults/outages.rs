//! Outages of the broker, of a database, of the network and of PostgreSQL's disk.

use std::time::{Duration, Instant};

use devstack::Fault;
use futures::{StreamExt, stream};
use tests::{
    Client, Response, Stack, broker, chaos::Report, client::new_key, eventually, invariants,
    scale::size, small_disk::SmallDisk,
};

use super::{
    assert_recovered_within, deposits, lasting, none_pending, pending, seconds, under_load,
};

/// Checks that every request got a response with one of these statuses.
fn assert_statuses(report: &Report, statuses: &[u16]) {
    let others: Vec<_> =
        report.responses.iter().filter(|(status, _)| !statuses.contains(status)).collect();
    assert!(others.is_empty(), "{others:?}");
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
