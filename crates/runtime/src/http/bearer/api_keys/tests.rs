use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures::FutureExt;

use super::*;
use crate::http::problem::TOO_MANY_REQUESTS;

/// Has one key at most, and counts the look-ups.
#[derive(Debug, Default)]
struct OneKey {
    lookups: AtomicUsize,
    key: Mutex<Option<(ApiKeyHash, ApiKey)>>,
    is_down: Mutex<bool>,
}

impl ApiKeyStore for Arc<OneKey> {
    fn find(&self, hash: ApiKeyHash) -> BoxFuture<'_, Result<Option<ApiKey>, Problem>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let found = self.key.lock().unwrap().clone().filter(|(own, _)| *own == hash);
        let result = if *self.is_down.lock().unwrap() {
            Err(UNAVAILABLE.because("down"))
        } else {
            Ok(found.map(|(_, key)| key))
        };
        async { result }.boxed()
    }
}

impl OneKey {
    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::Relaxed)
    }
}

/// A store with a key that is valid for this time, the verifier and the secret.
fn keys(valid_for: Duration) -> (Arc<OneKey>, ApiKeys, String) {
    let (new, id) = (NewApiKey::generate().unwrap(), ApiKeyId::new());
    let key = ApiKey {
        id,
        user_id: key_caller(id).unwrap(),
        scopes: Scopes::customer(),
        expires_at: SystemTime::now() + valid_for,
    };
    let store = Arc::new(OneKey { key: Mutex::new(Some((new.hash, key))), ..OneKey::default() });
    let keys = ApiKeys::new(Box::new(Arc::clone(&store)));
    (store, keys, new.secret)
}

const HOUR: Duration = Duration::from_secs(3600);

async fn status(keys: &ApiKeys, secret: &str) -> u16 {
    keys.caller(secret, || Ok(())).await.map_or_else(|problem| problem.status().as_u16(), |_| 200)
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_limited_and_keeps_out_no_known_one() {
    let (store, keys, secret) = keys(HOUR);
    for _ in 0..10 {
        assert!(is_key_caller(&keys.caller(&secret, || Ok(())).await.unwrap().user_id));
    }
    assert_eq!(store.lookups(), 1);
    let mut statuses = Vec::new();
    for _ in 0..3000 {
        let unknown = NewApiKey::generate().unwrap().secret;
        statuses.push(status(&keys, &unknown).await);
    }
    assert!(statuses.contains(&401) && statuses.contains(&503));
    assert!(store.lookups() < 2900, "{}", store.lookups());
    assert_eq!(status(&keys, &secret).await, 200);
    // One that may not be tried is not looked up, unless it is known.
    let too_many = || Err(TOO_MANY_REQUESTS.because("of this address"));
    let (before, unknown) = (store.lookups(), NewApiKey::generate().unwrap().secret);
    assert_eq!(keys.caller(&unknown, too_many).await.unwrap_err().status(), 429);
    assert!(keys.caller(&secret, too_many).await.is_ok());
    assert_eq!(store.lookups(), before);
    // Texts of another length are no keys.
    let before = store.lookups();
    for text in ["pbk_", "pbk_x", &secret[..46], &format!("{secret}A")] {
        assert_eq!(status(&keys, text).await, 401, "{text}");
    }
    assert_eq!(store.lookups(), before);
}

#[tokio::test]
async fn an_unknown_key_is_looked_up_once() {
    let (store, keys, _) = keys(HOUR);
    let unknown = NewApiKey::generate().unwrap().secret;
    for _ in 0..10 {
        assert_eq!(status(&keys, &unknown).await, 401);
    }
    assert_eq!(store.lookups(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_looked_up_again_after_four_seconds() {
    let (store, keys, secret) = keys(HOUR);
    for (seconds, lookups) in [(0, 1), (3, 1), (1, 2)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(status(&keys, &secret).await, 200);
        assert_eq!(store.lookups(), lookups);
    }
    // While the database is away, a revocation can't be known: no key is accepted.
    *store.is_down.lock().unwrap() = true;
    for (seconds, expected) in [(3, 200), (1, 503), (0, 503)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(status(&keys, &secret).await, expected);
    }
    *store.is_down.lock().unwrap() = false;
    assert_eq!(status(&keys, &secret).await, 200);
    *store.key.lock().unwrap() = None;
    for (seconds, expected) in [(3, 200), (1, 401), (0, 401)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(status(&keys, &secret).await, expected);
    }
}

#[tokio::test]
async fn a_cached_key_expires() {
    let (store, keys, secret) = keys(Duration::from_millis(300));
    assert_eq!(status(&keys, &secret).await, 200);
    std::thread::sleep(Duration::from_millis(400));
    let problem = keys.caller(&secret, || Ok(())).await.unwrap_err();
    assert_eq!((problem, store.lookups()), (invalid(), 1));
}

#[test]
fn a_new_key_shows_its_prefix_only() {
    let new = NewApiKey::generate().unwrap();
    assert_eq!((new.secret.len(), new.prefix.len()), (LENGTH, 12));
    assert!(new.secret.starts_with(&new.prefix));
    let shown = format!("{new:?}");
    assert!(shown.contains(&new.prefix) && !shown.contains(&new.secret), "{shown}");
    assert_ne!(new.secret, NewApiKey::generate().unwrap().secret);
}
