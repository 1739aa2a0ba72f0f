//! What a receiver gets: signed events, and only those it may have.

use reqwest::Method;
use serde_json::json;
use tests::{Client, eventually};

use super::{
    Endpoint, SOON, customer, open_accounts,
    receiver::{Receiver, SILENT},
    send, shared,
};

#[tokio::test]
async fn an_event_is_delivered_as_it_is_in_the_log_and_its_signature_verifies() {
    let stack = shared().await;
    let ann = customer(stack);
    let (hmac, ed25519) = (Receiver::start().await, Receiver::start().await);
    let first = Endpoint::create(&ann, &hmac).await;
    let body = json!({ "url": ed25519.url, "signature": "v1a" });
    let second = Endpoint::with(&ann, body).await;
    assert!(second.created.body.get("secret").is_none(), "the private key stays");
    let [account] = &open_accounts(&ann, 1).await[..] else { panic!() };

    let log = ann.get("/v1/events").await;
    let logged = &log.body["items"][0];
    for (receiver, endpoint) in [(&hmac, &first), (&ed25519, &second)] {
        let delivery = receiver.received(1, SOON).await.remove(0);
        assert_eq!(&delivery.event(), logged);
        assert_eq!(
            (&*delivery.id, &delivery.event()["accountId"]),
            (logged["id"].as_str().unwrap(), &json!(account))
        );
        assert_eq!(delivery.signatures.len(), 1);
        let sent: u64 = delivery.timestamp.parse().unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(now.abs_diff(sent) < 60);
        eventually("the delivery shows", SOON, async || {
            endpoint.show().await["lastDeliveredAt"].is_string().then_some(())
        })
        .await;
    }
    let delivery = hmac.deliveries().remove(0);
    assert!(delivery.is_signed_by(first.secret()));
    let mut changed = delivery.clone();
    changed.body.push(b' ');
    assert!(!changed.is_signed_by(first.secret()));
    let key = second.created.text("publicKey");
    assert!(ed25519.deliveries()[0].is_signed_by_owner_of(key));
}

#[tokio::test]
async fn an_endpoint_gets_its_types_of_its_owners_accounts_and_a_teller_may_have_all() {
    let stack = shared().await;
    let (ann, bob, teller) = (customer(stack), customer(stack), Client::teller(stack));
    let [own, other_type, all] =
        [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    Endpoint::create(&ann, &own).await;
    Endpoint::with(&ann, json!({ "url": other_type.url, "types": ["record.failed"] })).await;
    let of_all = json!({ "url": all.url, "allAccounts": true });
    let refused = ann.post("/v1/webhook-endpoints", &[], &of_all).await;
    assert_eq!((refused.status, refused.problem()), (403, "forbidden"));
    let endpoint = Endpoint::with(&teller, of_all).await;
    let (of_bob, of_ann) = (open_accounts(&bob, 2).await, open_accounts(&ann, 2).await);
    all.received_all(&[of_bob, of_ann.clone()].concat(), SOON).await;
    own.received_all(&of_ann, SOON).await;
    assert_eq!(own.deliveries().len(), 2);
    assert!(other_type.deliveries().is_empty());
    let deleted = send(&teller, Method::DELETE, &endpoint.path, &json!({})).await;
    assert_eq!((deleted.status, teller.get(&endpoint.path).await.status), (204, 404));
}

#[tokio::test]
async fn during_a_rotation_both_secrets_sign() {
    let stack = shared().await;
    let ann = customer(stack);
    let receiver = Receiver::start().await;
    let endpoint = Endpoint::create(&ann, &receiver).await;
    let rotated = endpoint.post("rotate-secret", &json!({})).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let (old, new) = (endpoint.secret(), rotated.text("secret"));
    assert_ne!(old, new);
    open_accounts(&ann, 1).await;
    let both = receiver.received(1, SOON).await.remove(0);
    assert!(both.is_signed_by(old) && both.is_signed_by(new) && both.signatures.len() == 2);

    // A day later.
    let expire = "UPDATE webhook_secrets SET expires_at = now() WHERE expires_at IS NOT NULL";
    sqlx::query(expire).execute(&stack.accounts().await).await.unwrap();
    open_accounts(&ann, 1).await;
    let one = receiver.received(2, SOON).await.remove(1);
    assert!(!one.is_signed_by(old) && one.is_signed_by(new) && one.signatures.len() == 1);

    // At most five secrets are valid at a time.
    for expected in [200, 200, 200, 200, 409] {
        let rotated = endpoint.post("rotate-secret", &json!({})).await;
        assert_eq!(rotated.status, expected, "{rotated:?}");
    }
}

#[tokio::test]
async fn a_rotation_ends_a_lease_and_no_pause_and_gives_no_turn_before_others() {
    let stack = shared().await;
    let ann = customer(stack);
    let receiver = Receiver::start().await;
    let endpoint = Endpoint::create(&ann, &receiver).await;
    let rotate = async || {
        let rotated = endpoint.post("rotate-secret", &json!({})).await;
        assert_eq!(rotated.status, 200, "{rotated:?}");
        rotated.text("secret").to_owned()
    };
    let accounts = stack.accounts().await;
    let is = async |condition: &str| -> bool {
        let select = format!("SELECT {condition} FROM webhook_endpoints WHERE id = $1");
        let select = sqlx::query_scalar(sqlx::AssertSqlSafe(select)).bind(endpoint.id());
        select.fetch_one(&accounts).await.unwrap()
    };
    rotate().await;
    assert!(is("not_before >= created_at").await, "it would be served before those that wait");
    receiver.answer(SILENT);
    open_accounts(&ann, 1).await;
    receiver.received(1, SOON).await;
    let new = rotate().await;
    assert!(is("is_slow").await, "it may take another healthy place");
    let second = receiver.received(2, SOON).await.remove(1);
    assert!(second.is_signed_by(&new) && second.is_signed_by(endpoint.secret()));

    // It fails, and is left alone.
    eventually("no attempt is under way", SOON, async || {
        let pause = "UPDATE webhook_endpoints
                     SET failures = 9, not_before = now() + interval '1 hour', pause = 3600
                     WHERE id = $1 AND lease_until < now()";
        let pause = sqlx::query(pause).bind(endpoint.id()).execute(&accounts).await.unwrap();
        (pause.rows_affected() == 1).then_some(())
    })
    .await;
    rotate().await;
    assert!(is("least(not_before, retry_at) > now() + interval '50 minutes'").await);
}

#[tokio::test]
async fn events_are_delivered_again_on_request() {
    let stack = shared().await;
    let (ann, bob) = (customer(stack), customer(stack));
    let receiver = Receiver::start().await;
    let endpoint = Endpoint::create(&ann, &receiver).await;
    let accounts = open_accounts(&ann, 3).await;
    receiver.received_all(&accounts, SOON).await;
    let first = receiver.deliveries().remove(0);

    let one = endpoint.post("redeliver", &json!({ "eventId": first.id })).await;
    assert_eq!(one.status, 202, "{one:?}");
    let again = receiver.received(4, SOON).await.remove(3);
    assert_eq!((&again.id, &again.body), (&first.id, &first.body));

    // The events after the first one of the log.
    let log = ann.get("/v1/events").await;
    let oldest = log.body["items"][0]["id"].as_str().unwrap();
    let after = endpoint.post("redeliver", &json!({ "after": oldest })).await;
    assert_eq!(after.status, 202, "{after:?}");
    let mut again: Vec<_> =
        receiver.received(6, SOON).await[4..].iter().map(|d| d.event()).collect();
    again.sort_by_key(|event| event["accountId"].to_string());
    assert_eq!(again, log.body["items"].as_array().unwrap()[1..]);
    open_accounts(&bob, 1).await;
    let anothers = bob.get("/v1/events").await.body["items"][0]["id"].clone();
    for field in ["eventId", "after"] {
        for event in [&json!("unknown"), &anothers] {
            let unknown = endpoint.post("redeliver", &json!({ field: event })).await;
            assert_eq!((unknown.status, unknown.text("field")), (422, field), "{unknown:?}");
        }
    }
}

#[tokio::test]
async fn a_changed_endpoint_gets_the_next_event_where_it_is_now() {
    let ann = customer(shared().await);
    let (before, after) = (Receiver::start().await, Receiver::start().await);
    let endpoint = Endpoint::create(&ann, &before).await;
    let change = json!({ "url": after.url, "description": "moved", "types": ["account.created"] });
    let changed = endpoint.change(&change).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    for field in ["url", "description", "types"] {
        assert_eq!(changed.body[field], change[field]);
    }
    after.received_all(&open_accounts(&ann, 1).await, SOON).await;
    assert!(before.deliveries().is_empty());
}
