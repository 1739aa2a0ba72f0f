//! The creation of keys: once for each request, within the creator's scopes, and only if the
//! request is valid.

use std::time::Duration;

use contract::{Scope, Scopes};
use futures::future::join_all;
use serde_json::{Value, json};
use tests::{Client, Stack, client::new_key, eventually, stack::initialized_folder};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::sleep;

use super::{SOON, create, key, revoke};

#[tokio::test]
async fn a_repeated_request_creates_one_key_and_shows_its_secret_once() {
    let stack = Stack::shared().await;
    let admin = Client::admin(stack);
    let in_two_seconds = OffsetDateTime::now_utc() + time::Duration::seconds(2);
    let expires = in_two_seconds.format(&Rfc3339).unwrap();
    let body = json!({ "name": "a", "scopes": ["accounts:read"], "expiresAt": expires });
    let key = new_key();
    let send = async |client: &Client, body: &Value| {
        client.post("/v1/api-keys", &[("idempotency-key", key.as_str())], body).await
    };
    let both = join_all([&body, &body].map(|body| send(&admin, body))).await;
    let secrets = both.iter().filter(|response| !response.text("secret").is_empty());
    assert_eq!(secrets.count(), 1, "{both:?}");
    let id = both[0].text("apiKeyId");
    // A retry finds it after its expiry, too.
    sleep(Duration::from_secs(2)).await;
    let replay = send(&admin, &body).await;
    for response in both.iter().chain([&replay]) {
        assert_eq!((response.status, response.text("apiKeyId")), (201, id), "{response:?}");
        let is_replay = response.header("idempotent-replayed") == Some("true");
        assert_eq!(is_replay, response.body.get("secret").is_none());
    }
    for (field, value) in [
        ("name", json!("b")),
        ("scopes", json!(["accounts:write"])),
        ("userId", json!("ann")),
        ("expiresAt", Value::Null),
    ] {
        let mut other = body.clone();
        other[field] = value;
        let other = send(&admin, &other).await;
        assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"), "{field}");
    }
    // Another caller's key is another one.
    let others = Client::user(stack, &new_key(), Scopes::all());
    assert_eq!(send(&others, &body).await.text("field"), "expiresAt");
}

#[tokio::test]
async fn two_requests_at_once_with_one_idempotency_key_create_one_key() {
    let arguments = ["--port", "0", "--account-replicas", "2", "--transaction-replicas", "0"];
    let stack = Stack::start_in(&initialized_folder("api-keys-at-once").await, &arguments).await;
    let (admin, accounts, key) = (Client::admin(&stack), stack.accounts().await, new_key());
    let body = json!({ "name": "a", "scopes": ["accounts:read"] });
    let send =
        || async { admin.post("/v1/api-keys", &[("idempotency-key", key.as_str())], &body).await };
    // Both find no earlier request, and wait before they store their keys.
    let mut holder = accounts.begin().await.unwrap();
    let lock = sqlx::raw_sql("LOCK TABLE api_keys IN SHARE MODE");
    lock.execute(&mut *holder).await.unwrap();
    let release = async {
        eventually("both requests wait", SOON, async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                           WHERE wait_event_type = 'Lock' AND query LIKE '%INTO api_keys%'";
            let waiting = sqlx::query_scalar(waiting).fetch_one(&accounts).await;
            let waiting: i64 = waiting.unwrap();
            (waiting == 2).then_some(())
        })
        .await;
        holder.rollback().await.unwrap();
    };
    let ((), first, second) = tokio::join!(release, send(), send());
    assert_eq!((first.status, second.status), (201, 201), "{first:?} {second:?}");
    assert_eq!(first.text("apiKeyId"), second.text("apiKeyId"));
    let replayed = [&first, &second].map(|response| response.header("idempotent-replayed"));
    assert!(replayed.contains(&Some("true")) && replayed.contains(&None), "{replayed:?}");
}

#[tokio::test]
async fn nobody_gives_a_key_more_than_he_has() {
    let stack = Stack::shared().await;
    let admin: Scopes = [Scope::Admin, Scope::AccountsRead].into_iter().collect();
    let name = new_key();
    let admin = Client::user(stack, &name, admin);
    let with = |scopes: Value| json!({ "name": "a test", "scopes": scopes });
    let acting_as =
        |user: &str| json!({ "name": "a test", "scopes": ["accounts:read"], "userId": user });
    for (body, scope) in [
        (with(json!(["accounts:read", "deposits:write"])), "deposits:write"),
        (with(json!(["accounts:any"])), "accounts:any"),
        (acting_as("ann"), "accounts:any"),
    ] {
        let refused = create(&admin, &body).await;
        assert_eq!(refused.status, 403, "{body}");
        assert!(refused.header("www-authenticate").unwrap().contains(scope), "{refused:?}");
    }
    for body in [with(json!(["accounts:read"])), acting_as(&name)] {
        assert_eq!(create(&admin, &body).await.status, 201, "{body}");
    }
    let without: Scopes = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect();
    let without = Client::user(stack, &new_key(), without);
    let (id, machine) = key(stack, &["accounts:read", "accounts:any"]).await;
    for client in [&without, &machine, &Client::teller(stack)] {
        assert_eq!(create(client, &with(json!(["accounts:read"]))).await.status, 403);
        assert_eq!(client.get("/v1/api-keys").await.status, 403);
        assert_eq!(revoke(client, &id).await.status, 403);
    }
    assert_eq!(machine.get("/v1/accounts").await.status, 200);
}

#[tokio::test]
async fn an_invalid_request_creates_no_key() {
    let stack = Stack::shared().await;
    let admin = Client::admin(stack);
    let name = format!("invalid {}", new_key());
    let in_days = |days| {
        let time = OffsetDateTime::now_utc() + time::Duration::days(days);
        json!(time.format(&Rfc3339).unwrap())
    };
    for (field, value) in [
        // No key manages keys or reads reports, whatever its creator has.
        ("scopes", json!(["admin"])),
        ("scopes", json!(["reports:read"])),
        ("scopes", json!([])),
        ("scopes", json!(["accounts"])),
        ("scopes", json!(["accounts:read "])),
        ("name", json!("")),
        ("name", json!(" ")),
        ("name", json!("a\nb")),
        ("name", json!("x".repeat(101))),
        ("userId", json!("a b")),
        ("userId", json!("")),
        ("expiresAt", json!("2020-01-01T00:00:00Z")),
        ("expiresAt", json!("9999-12-31T23:59:59Z")),
        ("expiresAt", json!("9999-12-31T23:59:59-23:59")),
        ("expiresAt", in_days(367)),
        ("expiresAt", json!("tomorrow")),
        ("scope", json!("accounts:read")),
    ] {
        let mut body = json!({ "name": name, "scopes": ["accounts:read"] });
        body[field] = value;
        let refused = create(&admin, &body).await;
        assert_eq!((refused.status, refused.text("field")), (422, field), "{body}");
    }
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE name = $1")
        .bind(&name)
        .fetch_one(&stack.accounts().await)
        .await
        .unwrap();
    assert_eq!(stored, 0);
    let valid = json!({ "name": name, "scopes": ["accounts:read"], "expiresAt": in_days(365) });
    assert_eq!(create(&admin, &valid).await.status, 201);
}
