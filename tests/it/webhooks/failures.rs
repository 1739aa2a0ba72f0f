//! Receivers that fail, hang, are gone, or may not be reached.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::eventually;

use super::{
    Endpoint, SOON, TIMEOUT, customer, open_accounts,
    receiver::{Receiver, SILENT},
    shared,
};

#[tokio::test]
async fn a_failed_delivery_is_repeated_with_the_same_id_and_a_signature_of_its_time() {
    let ann = customer(shared().await);
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let endpoint = Endpoint::create(&ann, &receiver).await;
    open_accounts(&ann, 1).await;
    let first = receiver.received(1, SOON).await.remove(0);
    receiver.answer(204);
    eventually("the failure is shown", SOON, async || {
        let shown = endpoint.show().await;
        (shown["lastError"] == "the receiver answered 500").then_some(())
    })
    .await;
    let second = receiver.received(2, SOON).await.remove(1);
    let pause = second.at.duration_since(first.at).unwrap();
    assert!(pause > Duration::from_millis(4500), "{pause:?}");
    assert_eq!((&second.id, &second.body), (&first.id, &first.body));
    assert_ne!(second.timestamp, first.timestamp);
    assert!(first.is_signed_by(endpoint.secret()) && second.is_signed_by(endpoint.secret()));
    eventually("no failure is left", SOON, async || {
        endpoint.show().await["failingSince"].is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_disables_its_endpoint_which_loses_nothing() {
    let ann = customer(shared().await);
    let receiver = Receiver::start().await;
    receiver.answer(410);
    let endpoint = Endpoint::create(&ann, &receiver).await;
    let mut accounts = open_accounts(&ann, 1).await;
    eventually("the endpoint is disabled", SOON, async || {
        let shown = endpoint.show().await;
        (shown["state"] == "DISABLED").then(|| assert_eq!(shown["disabledBecause"], "gone"))
    })
    .await;
    receiver.answer(204);
    let asked = receiver.deliveries().len();
    accounts.extend(open_accounts(&ann, 2).await);
    // Another endpoint gets them meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(receiver.deliveries().len(), asked);
    let enabled = endpoint.change(&json!({ "state": "ENABLED" })).await;
    assert_eq!((enabled.status, enabled.text("state")), (200, "ENABLED"), "{enabled:?}");
    receiver.received_all(&accounts[1..], SOON).await;
    eventually("the first event arrives again", SOON, async || {
        let deliveries = receiver.deliveries();
        let again = deliveries.iter().filter(|d| d.event()["accountId"] == *accounts[0]);
        (again.count() > asked).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_endpoint_delays_no_other_one() {
    let stack = shared().await;
    let (ann, bob) = (customer(stack), customer(stack));
    // So many that they would take longer than the time limit, one after the other in each replica.
    let mut dead = Vec::new();
    for _ in 0..8 {
        let receiver = Receiver::start().await;
        receiver.answer(SILENT);
        Endpoint::create(&ann, &receiver).await;
        dead.push(receiver);
    }
    let healthy = Receiver::start().await;
    Endpoint::create(&bob, &healthy).await;
    open_accounts(&ann, 20).await;
    for receiver in &dead {
        receiver.received(1, SOON).await;
    }
    for number in 1..=5 {
        let begun = Instant::now();
        open_accounts(&bob, 1).await;
        healthy.received(number, SOON).await;
        assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn no_request_goes_to_a_private_address() {
    let ann = customer(shared().await);
    // The stack allows 127.0.0.1 only.
    let receiver = Receiver::start_at(Ipv4Addr::new(127, 0, 0, 2)).await;
    for url in
        [receiver.url.as_str(), "http://10.0.0.1/", "http://169.254.169.254/", "http://[::1]/"]
    {
        let refused = ann.post("/v1/webhook-endpoints", &[], &json!({ "url": url })).await;
        let problem = (refused.status, refused.problem());
        assert_eq!(problem, (422, "webhook-url-not-allowed"), "{url}: {refused:?}");
    }
    // Names are resolved, and their addresses checked, when a connection is made.
    // The second one does not exist. Nothing listens on the third one.
    let closed = Receiver::start().await.port;
    let hidden = [
        format!("http://0x7f.2:{}/", receiver.port),
        "http://no-such-name.invalid/".to_owned(),
        format!("http://localhost:{closed}/"),
    ];
    let mut endpoints = Vec::new();
    for url in &hidden {
        endpoints.push(Endpoint::with(&ann, json!({ "url": url })).await);
    }
    let (redirecting, target) = (Receiver::start().await, Receiver::start().await);
    redirecting.redirect(&target.url);
    let redirected = Endpoint::create(&ann, &redirecting).await;
    open_accounts(&ann, 1).await;
    let none = "the host has no public address";
    let refused = [none, none, "no connection"];
    for (endpoint, error) in endpoints.iter().zip(refused) {
        eventually(error, SOON, async || {
            (endpoint.show().await["lastError"] == error).then_some(())
        })
        .await;
    }
    eventually("a redirect is a failure", SOON, async || {
        (redirected.show().await["lastError"] == "the receiver answered 307").then_some(())
    })
    .await;
    assert!(receiver.deliveries().is_empty() && target.deliveries().is_empty());
}

#[tokio::test]
async fn retries_are_spread_and_an_endpoint_that_fails_for_days_is_disabled() {
    let stack = shared().await;
    let ann = customer(stack);
    let receiver = Receiver::start().await;
    receiver.answer(500);
    let endpoint = Endpoint::create(&ann, &receiver).await;
    let id = endpoint.created.text("webhookEndpointId");
    let opened = open_accounts(&ann, 3).await;
    let accounts = stack.accounts().await;
    let waiting = "SELECT attempts, extract(epoch FROM next_attempt_at - last_attempt_at)::float8
                   FROM webhook_deliveries WHERE endpoint_id = $1::uuid";
    let pauses: Vec<(i32, f64)> = eventually("three deliveries wait", SOON, async || {
        let rows = sqlx::query_as(waiting).bind(id).fetch_all(&accounts).await.unwrap();
        (rows.len() == 3).then_some(rows)
    })
    .await;
    // Of the schedule: the first retry comes after 5 s, the next after 5 min.
    let share = |(attempts, pause): &(i32, f64)| pause / if *attempts == 1 { 5.0 } else { 300.0 };
    let mut shares: Vec<_> = pauses.iter().map(share).collect();
    shares.sort_by(f64::total_cmp);
    let (least, most) = (shares[0], shares[2]);
    assert!(least > 0.899 && most < 1.101 && most - least > 0.0001, "{pauses:?}");

    // Five days later. Each delivery has had nine attempts; an earlier release gave the last up.
    for later in [
        "UPDATE webhook_deliveries SET attempts = 9, next_attempt_at = now()
         WHERE endpoint_id = $1::uuid",
        "UPDATE webhook_deliveries SET next_attempt_at = NULL WHERE endpoint_id = $1::uuid
             AND position = (SELECT max(position) FROM webhook_deliveries
                             WHERE endpoint_id = $1::uuid)",
        "UPDATE webhook_endpoints SET failing_since = now() - interval '121 hours', failures = 9,
             not_before = now(), retry_at = now() WHERE id = $1::uuid",
    ] {
        sqlx::query(later).bind(id).execute(&accounts).await.unwrap();
    }
    eventually("the endpoint is disabled", SOON, async || {
        let shown = endpoint.show().await;
        (shown["state"] == "DISABLED").then(|| assert_eq!(shown["disabledBecause"], "failing"))
    })
    .await;
    // Enabled, it gets all that it has missed, at once.
    receiver.answer(204);
    assert_eq!(endpoint.change(&json!({ "state": "ENABLED" })).await.status, 200);
    receiver.received_all(&opened, SOON).await;
}

#[tokio::test]
async fn an_attempt_under_way_does_not_undo_a_change() {
    let ann = customer(shared().await);
    let receiver = Receiver::start().await;
    receiver.answer(SILENT);
    let endpoint = Endpoint::create(&ann, &receiver).await;
    open_accounts(&ann, 1).await;
    receiver.received(1, SOON).await;
    let disabled = endpoint.change(&json!({ "state": "DISABLED" })).await;
    assert_eq!(disabled.status, 200, "{disabled:?}");
    // The attempt ends meanwhile.
    tokio::time::sleep(TIMEOUT + Duration::from_secs(1)).await;
    assert_eq!(endpoint.show().await, disabled.body);
}
