//! The keys of the settings, which seal the secrets of endpoints in the database.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use runtime::postgres::PgPool;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::types::Uuid;
use tests::{eventually, metrics::Scrape};

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, shared};

/// The present key, an earlier one, and one that the settings do not have any more.
const PRESENT: [u8; 32] = [1; 32];
const EARLIER: [u8; 32] = [2; 32];
const REMOVED: [u8; 32] = [3; 32];

/// The setting.
pub(super) fn keys() -> String {
    [PRESENT, EARLIER].map(|key| STANDARD.encode(key)).join(",")
}

/// What the service stores of a secret that it seals with this key.
fn sealed(key: [u8; 32], endpoint: Uuid, id: Uuid, secret: &str) -> Vec<u8> {
    let mut text = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let name = [&endpoint.as_bytes()[..], id.as_bytes()].concat();
    let nonce = [7; 12];
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap())
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut text)
        .unwrap();
    [&beginning(key)[..], &nonce, &text].concat()
}

fn beginning(key: [u8; 32]) -> Vec<u8> {
    let hash = Sha256::digest([&b"webhook secret key"[..], &key].concat());
    [&[1], &hash[..4]].concat()
}

/// The secret of an endpoint, as it is stored.
pub(super) async fn stored(accounts: &PgPool, endpoint: &Endpoint) -> (Uuid, Vec<u8>) {
    let select = "SELECT id, sealed FROM webhook_secrets WHERE endpoint_id = $1";
    sqlx::query_as(select).bind(endpoint.id()).fetch_one(accounts).await.unwrap()
}

pub(super) fn has_present_key(sealed: &[u8]) -> bool {
    sealed.starts_with(&beginning(PRESENT))
}

/// Stores the secret as if it had been sealed with the earlier key.
pub(super) async fn seal_with_earlier_key(accounts: &PgPool, endpoint: &Endpoint) {
    seal(accounts, endpoint, EARLIER).await;
}

async fn seal(accounts: &PgPool, endpoint: &Endpoint, key: [u8; 32]) {
    let (id, _) = stored(accounts, endpoint).await;
    let update = "UPDATE webhook_secrets SET sealed = $2 WHERE id = $1";
    let sealed = sealed(key, endpoint.id(), id, endpoint.secret());
    sqlx::query(update).bind(id).bind(sealed).execute(accounts).await.unwrap();
}

#[tokio::test]
async fn a_secret_of_an_earlier_key_is_sealed_again_and_one_of_a_lost_key_can_be_rotated() {
    let stack = shared().await;
    let ann = customer(stack);
    let receivers = [Receiver::start().await, Receiver::start().await];
    let [of_earlier, of_removed] =
        [Endpoint::create(&ann, &receivers[0]).await, Endpoint::create(&ann, &receivers[1]).await];
    let pool = stack.accounts().await;
    for (endpoint, key) in [(&of_earlier, EARLIER), (&of_removed, REMOVED)] {
        assert!(has_present_key(&stored(&pool, endpoint).await.1));
        seal(&pool, endpoint, key).await;
    }
    eventually("it has the present key", SOON, async || {
        has_present_key(&stored(&pool, &of_earlier).await.1).then_some(())
    })
    .await;
    open_accounts(&ann, 1).await;
    let delivery = receivers[0].received(1, SOON).await.remove(0);
    assert!(delivery.is_signed_by(of_earlier.secret()));
    // Without its key, a secret stays as it is, is counted, and delivers nothing.
    let (_, removed) = stored(&pool, &of_removed).await;
    assert!(removed.starts_with(&beginning(REMOVED)));
    eventually("it is counted", SOON, async || {
        let scrape = Scrape::of(stack, "webhook-service-0").await;
        let untried = [("reason", "untried")];
        let waits = scrape.sum("passbook_webhook_oldest_event_seconds", &untried)? > 0.0;
        (waits && scrape.sum("passbook_webhook_secrets_old_key", &[])? == 1.0).then_some(())
    })
    .await;
    assert!(receivers[1].deliveries().is_empty());
    // If the key is lost, a new secret is the remedy, although the lost one is valid for a day.
    let rotated = of_removed.post("rotate-secret", &json!({})).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let delivery = receivers[1].received(1, SOON).await.remove(0);
    assert!(delivery.is_signed_by(rotated.text("secret")) && delivery.signatures.len() == 1);
    open_accounts(&ann, 1).await;
    receivers[1].received(2, SOON).await;
}
