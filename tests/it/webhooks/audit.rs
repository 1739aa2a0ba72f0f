//! What the audit log tells about endpoints, and that it has no secret.

use contract::Scopes;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, client::new_key, eventually};

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, send, shared};

#[tokio::test]
async fn the_audit_log_tells_what_was_done_to_an_endpoint() {
    let stack = shared().await;
    let name = new_key();
    let ann = Client::user(stack, &name, Scopes::all());
    let (receiver, key) = (Receiver::start().await, new_key());
    let headers = [("idempotency-key", key.as_str())];
    let body = json!({ "url": receiver.url });
    let created = ann.post("/v1/webhook-endpoints", &headers, &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let path = created.header("location").unwrap().to_owned();
    let endpoint = Endpoint { client: ann.clone(), path: path.clone(), created };
    // A retry, requests that are refused, and those that change nothing have no entry.
    assert_eq!(ann.post("/v1/webhook-endpoints", &headers, &body).await.status, 201);
    assert_eq!(endpoint.change(&json!({ "url": "ftp://example.com" })).await.status, 422);
    let mallory = customer(stack);
    assert_eq!(send(&mallory, Method::DELETE, &path, &json!({})).await.status, 404);
    assert_eq!(endpoint.change(&body).await.status, 200);
    // A secret of the receiver is in the path and the query.
    let elsewhere = json!({ "url": "https://example.com:8443/T0/hidden?key=hidden" });
    assert_eq!(endpoint.change(&elsewhere).await.status, 200);
    let back =
        json!({ "url": receiver.url, "description": "hidden", "types": ["account.created"] });
    assert_eq!(endpoint.change(&back).await.status, 200);
    let rotated = endpoint.post("rotate-secret", &json!({})).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    open_accounts(&ann, 1).await;
    let event = receiver.received(1, SOON).await.remove(0).id;
    for field in ["eventId", "after"] {
        let again = endpoint.post("redeliver", &json!({ field: event })).await;
        assert_eq!(again.status, 202, "{again:?}");
    }
    receiver.received(2, SOON).await;
    receiver.answer(410);
    open_accounts(&ann, 1).await;
    eventually("the endpoint is disabled", SOON, async || {
        (endpoint.show().await["state"] == "DISABLED").then_some(())
    })
    .await;
    receiver.answer(204);
    assert_eq!(endpoint.change(&json!({ "state": "ENABLED" })).await.status, 200);
    assert_eq!(endpoint.change(&json!({ "state": "DISABLED" })).await.status, 200);
    let deleted = send(&ann, Method::DELETE, &path, &json!({})).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");

    let log = ann.get(&format!("/v1/audit-log?limit=100&resource={path}")).await;
    let mut entries = log.body["items"].as_array().unwrap().clone();
    entries.reverse();
    let told = |entry: &Value| {
        let action = entry["action"].as_str().unwrap().strip_prefix("webhook-endpoint.");
        (action.unwrap().to_owned(), entry["actor"].clone(), entry["details"].clone())
    };
    let told: Vec<_> = entries.iter().map(told).collect();
    let origin = format!("http://127.0.0.1:{}", receiver.port);
    let own = json!({ "ownerId": name, "origin": origin });
    let state = |state: &str| json!({ "changed": "state", "state": state });
    let expected = [
        ("created", name.as_str(), own.clone()),
        ("changed", &name, json!({ "changed": "url", "origin": "https://example.com:8443" })),
        ("changed", &name, json!({ "changed": "url description types", "origin": origin })),
        ("secret-rotated", &name, json!({})),
        ("redelivery-requested", &name, json!({ "eventId": event })),
        ("redelivery-requested", &name, json!({ "after": event })),
        ("disabled", "webhook-service", json!({ "because": "gone" })),
        ("changed", &name, state("ENABLED")),
        ("changed", &name, state("DISABLED")),
        ("deleted", &name, own),
    ]
    .map(|(action, actor, details)| (action.to_owned(), json!(actor), details));
    assert_eq!(told, expected);
    let text = log.body.to_string();
    for secret in [endpoint.secret(), rotated.text("secret"), "hidden", "a=b"] {
        assert!(!text.contains(secret), "{text}");
    }
}
