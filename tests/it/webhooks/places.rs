//! Endpoints that would take the places of others.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, client::new_key, eventually, wait};

use super::{
    Endpoint, SOON, customer, open_accounts,
    receiver::{Receiver, SILENT},
    shared, start, start_with,
};

/// Well below the time of an answer that is slow.
const IN_TIME: Duration = Duration::from_secs(4);

/// A stack whose one replica has six places for healthy endpoints, and two for others.
async fn few_places(name: &str) -> Stack {
    let settings = ["PASSBOOK_WEBHOOK_PLACES=8", "PASSBOOK_WEBHOOK_TIMEOUT=20s"];
    start_with(name, &["--webhook-replicas", "1"], &settings.map(str::to_owned)).await
}

/// Opens an account: its event arrives in time.
async fn is_served(client: &Client, receiver: &Receiver) {
    let (begun, number) = (Instant::now(), receiver.deliveries().len() + 1);
    open_accounts(client, 1).await;
    receiver.received(number, SOON).await;
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn endpoints_that_hang_take_no_places_from_others() {
    let stack = few_places("webhooks-changed").await;
    let (ann, bob) = (customer(&stack), customer(&stack));
    let (silent, healthy) = (Receiver::start().await, Receiver::start().await);
    silent.answer(SILENT);
    let endpoint = Endpoint::create(&ann, &silent).await;
    Endpoint::create(&bob, &healthy).await;
    open_accounts(&ann, 1).await;
    silent.received(1, SOON).await;
    for number in 2..=6 {
        let change = json!({ "url": format!("{}&number={number}", silent.url) });
        assert_eq!(endpoint.change(&change).await.status, 200);
        silent.received(number, SOON).await;
    }
    is_served(&bob, &healthy).await;

    // More at once than there are places.
    let mut silent_ones = Vec::new();
    for _ in 0..8 {
        let receiver = Receiver::start().await;
        receiver.answer(SILENT);
        Endpoint::create(&ann, &receiver).await;
        silent_ones.push(receiver);
    }
    open_accounts(&ann, 1).await;
    wait::eventually_now("every place is taken", SOON, || {
        let taken = silent_ones.iter().filter(|receiver| !receiver.deliveries().is_empty());
        (taken.count() >= 6).then_some(())
    })
    .await;
    is_served(&bob, &healthy).await;
}

#[tokio::test]
async fn endpoints_that_answer_slowly_take_no_places_from_others() {
    let stack = few_places("webhooks-slow").await;
    let (ann, bob) = (customer(&stack), customer(&stack));
    let mut slow = Vec::new();
    for _ in 0..8 {
        let receiver = Receiver::start().await;
        receiver.answer_after(Duration::from_secs(6));
        Endpoint::create(&ann, &receiver).await;
        slow.push(receiver);
    }
    let healthy = Receiver::start().await;
    Endpoint::create(&bob, &healthy).await;
    let opened = open_accounts(&ann, 30).await;
    // The first of them are answered.
    for receiver in &slow {
        receiver.received(9, Duration::from_secs(60)).await;
    }
    for _ in 0..5 {
        is_served(&bob, &healthy).await;
    }
    for receiver in &slow {
        receiver.answer_after(Duration::ZERO);
    }
    for receiver in &slow {
        receiver.received_all(&opened, Duration::from_secs(60)).await;
    }
}

/// A policy makes the rows of an owner slow for the webhook-service.
#[tokio::test]
async fn deliveries_that_read_for_long_hold_up_no_announcement() {
    let stack = start("webhooks-reads", "1").await;
    let (accounts, name) = (stack.accounts().await, new_key());
    let (ann, bob) = (Client::customer(&stack, &name), customer(&stack));
    let receiver = Receiver::start().await;
    for _ in 0..12 {
        Endpoint::create(&ann, &receiver).await;
    }
    open_accounts(&ann, 1).await;
    receiver.received(12, SOON).await;
    let is = async |condition: &'static str| -> bool {
        sqlx::query_scalar(condition).fetch_one(&accounts).await.unwrap()
    };
    eventually("the deliveries are settled", SOON, async || {
        let settled = "SELECT bool_and(position = announced AND lease_until < now())
                       FROM webhook_endpoints";
        is(settled).await.then_some(())
    })
    .await;
    let slow = format!(
        "CREATE POLICY slow ON accounts USING (current_user <> 'webhook_service'
             OR owner_id <> '{name}' OR pg_sleep(1.5) IS NOT NULL);
         ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
         UPDATE webhook_endpoints SET position = position - 1"
    );
    sqlx::raw_sql(AssertSqlSafe(slow)).execute(&accounts).await.unwrap();
    eventually("deliveries read", SOON, async || {
        let read = "SELECT count(*) >= 2 FROM pg_stat_activity
                    WHERE usename = 'webhook_service' AND wait_event = 'PgSleep'";
        is(read).await.then_some(())
    })
    .await;
    open_accounts(&bob, 1).await;
    eventually("the event is announced", IN_TIME, async || {
        let announced = "SELECT position = (SELECT max(position) FROM events) FROM webhook_fanout";
        is(announced).await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_change_that_changes_nothing_writes_nothing() {
    let stack = shared().await;
    let ann = customer(stack);
    let receiver = Receiver::start().await;
    let body = json!({
        "url": receiver.url, "description": "same", "types": ["account.created"],
    });
    let endpoint = Endpoint::with(&ann, body.clone()).await;
    let row = async || -> String {
        let row = "SELECT xmin::text || ' ' || fence FROM webhook_endpoints WHERE id = $1";
        let row = sqlx::query_scalar(row).bind(endpoint.id());
        row.fetch_one(&stack.accounts().await).await.unwrap()
    };
    let (before, shown) = (row().await, endpoint.show().await);
    for same in [json!({}), body, json!({ "state": "ENABLED" })] {
        let unchanged = endpoint.change(&same).await;
        assert_eq!((unchanged.status, &unchanged.body), (200, &shown));
        assert_eq!(row().await, before, "{same}");
    }
    // A description ends no lease.
    assert_eq!(endpoint.change(&json!({ "description": "other" })).await.status, 200);
    let fence = |row: &str| row.split(' ').nth(1).unwrap().to_owned();
    let described = row().await;
    assert!(described != before && fence(&described) == fence(&before), "{before} {described}");
}
