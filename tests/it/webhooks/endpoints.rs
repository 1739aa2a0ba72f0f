//! The endpoints as a resource: whose they are, and where their secrets are not.

use base64::{Engine, engine::general_purpose::STANDARD};
use devstack::Secrets;
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tests::{Client, client::new_key};

use super::{Endpoint, customer, receiver::Receiver, send, shared};
use crate::floods::assert_hidden;

#[tokio::test]
async fn another_owners_endpoint_does_not_exist() {
    let stack = shared().await;
    let (ann, mallory) = (customer(stack), customer(stack));
    let endpoint = Endpoint::create(&ann, &Receiver::start().await).await;
    let path = &endpoint.path;
    let attempts = [
        mallory.get(path).await,
        send(&mallory, Method::PATCH, path, &json!({ "url": "https://example.com/" })).await,
        send(&mallory, Method::DELETE, path, &json!({})).await,
        mallory.post(&format!("{path}/rotate-secret"), &[], &json!({})).await,
        mallory.post(&format!("{path}/redeliver"), &[], &json!({ "after": "any" })).await,
        mallory.get(&format!("{path}/deliveries")).await,
    ];
    for refused in attempts {
        let problem = (refused.status, refused.problem());
        assert_eq!(problem, (404, "webhook-endpoint-not-found"), "{refused:?}");
        assert_hidden(stack, "webhook-service", &mallory, &refused);
    }
    let list = mallory.get("/v1/webhook-endpoints").await;
    assert_eq!(list.body["items"], json!([]));
    let mut expected = endpoint.created.body.clone();
    expected.as_object_mut().unwrap().remove("secret");
    assert_eq!(endpoint.show().await, expected);
    let teller = Client::teller(stack);
    assert_eq!(teller.get(path).await.body, expected);
}

#[tokio::test]
async fn an_owner_has_at_most_16_endpoints_also_by_requests_at_the_same_time() {
    let ann = customer(shared().await);
    let body = json!({ "url": "https://example.com/" });
    let requests = (0..24).map(|_| ann.post("/v1/webhook-endpoints", &[], &body));
    let mut statuses: Vec<_> = join_all(requests).await.iter().map(|r| r.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[201; 16].as_slice(), &[409; 8]].concat());
    let list = ann.get("/v1/webhook-endpoints?limit=100").await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 16);
    let first = ann.get("/v1/webhook-endpoints?limit=10").await;
    let next = format!("/v1/webhook-endpoints?limit=10&cursor={}", first.text("nextCursor"));
    let second = ann.get(&next).await;
    let items = [&first, &second].map(|page| page.body["items"].as_array().unwrap().clone());
    assert_eq!(json!(items.concat()), list.body["items"]);
    assert!(second.body["nextCursor"].is_null());
    let of_another = customer(shared().await).get(&next).await;
    assert_eq!((of_another.status, of_another.problem()), (400, "invalid-cursor"));
}

#[tokio::test]
async fn the_secret_is_shown_once_and_the_database_has_it_encrypted() {
    let stack = shared().await;
    let ann = customer(stack);
    let (key, receiver) = (new_key(), Receiver::start().await);
    let headers = [("idempotency-key", key.as_str())];
    let body = json!({ "url": receiver.url });
    let created = ann.post("/v1/webhook-endpoints", &headers, &body).await;
    let replayed = ann.post("/v1/webhook-endpoints", &headers, &body).await;
    assert_eq!((created.status, replayed.status), (201, 201));
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!(replayed.text("webhookEndpointId"), created.text("webhookEndpointId"));
    let secret = created.text("secret").strip_prefix("whsec_").unwrap();
    assert!(replayed.body.get("secret").is_none());
    for (field, value) in [("url", json!("https://example.com/")), ("signature", json!("v1a"))] {
        let mut other = body.clone();
        other[field] = value;
        let other = ann.post("/v1/webhook-endpoints", &headers, &other).await;
        assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"), "{other:?}");
    }

    let secrets = Secrets::read(&stack.dir).unwrap();
    let url = stack.file().databases.account;
    let (_, address) = url.split_once('@').unwrap();
    let bytes = STANDARD.decode(secret).unwrap();
    let select = "SELECT sealed FROM webhook_secrets";
    let stored: Vec<Vec<u8>> =
        sqlx::query_scalar(select).fetch_all(&stack.accounts().await).await.unwrap();
    assert!(!stored.is_empty());
    for sealed in stored {
        assert!(!sealed.windows(8).any(|part| part == &bytes[..8]));
    }
    for (role, may) in [("account_service", false), ("auditor", false), ("webhook_service", true)] {
        let url = format!("postgres://{role}:{}@{address}", secrets.postgres.of(role).unwrap());
        let mut session = PgConnection::connect(&url).await.unwrap();
        let outcome = sqlx::raw_sql(select).execute(&mut session).await;
        assert_eq!(outcome.is_ok(), may, "{role}: {outcome:?}");
    }
}
