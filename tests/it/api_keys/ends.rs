//! The end of a key, by its revocation or expiry.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tests::{Client, Stack, client::new_key, eventually};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{SOON, assert_refused, key, key_of, listed, revoke};

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_replica_within_five_seconds() {
    let stack = Stack::shared().await;
    let (id, machine) = key(stack, &["accounts:read"]).await;
    let replicas = ["account-service-0", "account-service-1"].map(|name| machine.at(stack, name));
    for replica in &replicas {
        assert_eq!(replica.get("/v1/accounts").await.status, 200);
    }
    let admin = Client::admin(stack);
    assert_eq!(revoke(&admin, &id).await.status, 204);
    let revoked = Instant::now();
    // The use of the key meanwhile does not prolong it.
    join_all(replicas.iter().map(async |replica| {
        while replica.get("/v1/accounts").await.status == 200 {
            assert!(revoked.elapsed() < Duration::from_secs(5), "the key is accepted for too long");
            sleep(Duration::from_millis(50)).await;
        }
        assert_refused(&replica.get("/v1/accounts").await);
    }))
    .await;
    // Once more changes nothing.
    let before = listed(&admin, &id).await;
    assert!(before["revokedAt"].is_string());
    assert_eq!(revoke(&admin, &id).await.status, 204);
    assert_eq!(listed(&admin, &id).await, before);
    let unknown = revoke(&admin, &new_key()).await;
    assert_eq!((unknown.status, unknown.problem()), (404, "api-key-not-found"));
}

#[tokio::test]
async fn a_stream_of_a_revoked_key_ends_within_five_seconds() {
    let stack = Stack::shared().await;
    let (id, machine) = key(stack, &["accounts:read", "events:read"]).await;
    let machine = machine.at(stack, "account-service-0");
    // Other requests keep the key in the replica's cache: the stream meets it at any age.
    let begun = Instant::now();
    let requests = async {
        while machine.get("/v1/accounts?limit=1").await.status == 200 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let stream = async {
        sleep_until(begun + Duration::from_secs(3)).await;
        let mut stream = machine.follow("", None).await.unwrap();
        timeout(SOON, stream.ended()).await.unwrap();
        Instant::now()
    };
    let revocation = async {
        sleep_until(begun + Duration::from_millis(5_300)).await;
        assert_eq!(revoke(&Client::admin(stack), &id).await.status, 204);
        Instant::now()
    };
    let (ended, revoked, ()) = tokio::join!(stream, revocation, requests);
    assert!(ended > revoked, "the stream ended before the revocation");
    assert!(ended - revoked < Duration::from_secs(5), "{:?}", ended - revoked);
}

#[tokio::test]
async fn a_key_ends_at_its_expiry() {
    let stack = Stack::shared().await;
    let expires = OffsetDateTime::now_utc() + time::Duration::seconds(3);
    let body = json!({
        "name": "short", "scopes": ["accounts:read"],
        "expiresAt": expires.format(&Rfc3339).unwrap(),
    });
    let (_, machine) = key_of(stack, &Client::admin(stack), &body).await;
    assert_eq!(machine.get("/v1/accounts").await.status, 200);
    eventually("the key has expired", Duration::from_secs(10), async || {
        let response = machine.get("/v1/accounts").await;
        (response.status != 200).then(|| assert_refused(&response))
    })
    .await;
    assert!(OffsetDateTime::now_utc() >= expires);
}
