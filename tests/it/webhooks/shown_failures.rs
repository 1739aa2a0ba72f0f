//! What an owner sees of a receiver that fails: the state of the endpoint, and the deliveries.

use serde_json::Value;
use tests::eventually;

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, shared};

#[tokio::test]
async fn an_owner_sees_what_the_receiver_has_not_taken() {
    let stack = shared().await;
    let (ann, mallory) = (customer(stack), customer(stack));
    let receiver = Receiver::start().await;
    let endpoint = Endpoint::create(&ann, &receiver).await;
    let new = endpoint.show().await;
    assert_eq!((&new["failures"], &new["nextAttemptAt"]), (&0.into(), &Value::Null));
    let path = format!("{}/deliveries", endpoint.path);
    let listed = async |query: &str| ann.get(&format!("{path}{query}")).await;
    assert_eq!(listed("").await.body["items"], serde_json::json!([]));

    receiver.answer(500);
    let accounts = open_accounts(&ann, 2).await;
    let page = eventually("both wait", SOON, async || {
        let page = listed("").await;
        (page.body["items"].as_array().unwrap().len() == 2).then_some(page)
    })
    .await;
    let log = ann.get("/v1/events").await;
    for (index, account) in accounts.iter().enumerate() {
        let (delivery, event) = (&page.body["items"][index], &log.body["items"][index]);
        let same = ["accountId", "type", "sequence", "timestamp"];
        assert!(same.iter().all(|field| delivery[field] == event[field]), "{delivery} {event}");
        assert_eq!(
            (&delivery["eventId"], &delivery["accountId"]),
            (&event["id"], &account[..].into())
        );
        assert_eq!(delivery["state"], "WAITING");
        assert_eq!(delivery["lastError"], "the receiver answered 500");
        assert!(delivery["nextAttemptAt"].as_str() > delivery["lastAttemptAt"].as_str());
    }
    assert!(page.body["nextCursor"].is_null());
    let shown = endpoint.show().await;
    assert!(shown["failures"].as_i64().unwrap() >= 2, "{shown}");
    assert!(shown["failingSince"].is_string() && shown["lastFailedAt"].is_string(), "{shown}");
    assert!(shown["nextAttemptAt"].is_string(), "{shown}");

    // Page by page.
    let first = listed("?limit=1").await;
    let cursor = first.text("nextCursor").to_owned();
    let second = listed(&format!("?limit=1&after={cursor}")).await;
    let pages = [&first.body["items"][0]["eventId"], &second.body["items"][0]["eventId"]];
    assert_eq!(pages, [&page.body["items"][0]["eventId"], &page.body["items"][1]["eventId"]]);
    assert!(second.body["nextCursor"].is_null());
    let invalid = listed("?after=none").await;
    assert_eq!((invalid.status, invalid.problem()), (400, "invalid-cursor"), "{invalid:?}");
    let refused = mallory.get(&path).await;
    assert_eq!((refused.status, refused.problem()), (404, "webhook-endpoint-not-found"));

    // After its tenth attempt, a delivery is given up. The other one was taken.
    let last = format!(
        "UPDATE webhook_deliveries SET attempts = 9 WHERE endpoint_id = '{}' AND position = (
             SELECT max(position) FROM webhook_deliveries WHERE endpoint_id = '{0}')",
        endpoint.created.text("webhookEndpointId")
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(last)).execute(&stack.accounts().await).await.unwrap();
    eventually("one is given up", SOON, async || {
        let page = listed("").await;
        let newest = &page.body["items"][1];
        (newest["state"] == "GIVEN_UP").then(|| {
            assert_eq!((&newest["attempts"], &newest["nextAttemptAt"]), (&10.into(), &Value::Null));
            receiver.answer(204);
        })
    })
    .await;
    // The other one, by hand: its next attempt is minutes away.
    let event = first.body["items"][0]["eventId"].clone();
    let again = endpoint.post("redeliver", &serde_json::json!({ "eventId": event })).await;
    assert_eq!(again.status, 202, "{again:?}");
    eventually("only the lost one is left", SOON, async || {
        let page = listed("").await;
        let left = page.body["items"].as_array().unwrap();
        (left.len() == 1 && left[0]["state"] == "GIVEN_UP").then_some(())
    })
    .await;
    let shown = endpoint.show().await;
    assert_eq!((&shown["failures"], &shown["nextAttemptAt"]), (&0.into(), &Value::Null));
    // Taken from the log, it is no failure any more.
    let again = endpoint.post("redeliver", &serde_json::json!({ "after": event })).await;
    assert_eq!(again.status, 202, "{again:?}");
    eventually("none is left", SOON, async || {
        listed("").await.body["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}
