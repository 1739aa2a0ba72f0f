//! API keys: bearer tokens for machines, which a service stores as hashes.
//!
//! A valid key is looked up again after [`RECHECK`], so that a revocation counts within that time
//! in every replica, and a second later in a long response, which asks again and again. A key in the cache costs a request one hash and one look-up in a map. Keys
//! that were not found lately are cached, too, and look-ups of other keys are limited, so that a
//! flood of invented keys does not reach the database.

use std::{
    fmt,
    num::NonZeroU32,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::{ApiKeyId, ParseIdError, Scopes, UserId};
use futures::future::BoxFuture;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use quick_cache::sync::Cache;
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use tokio::time::Instant;

use super::Caller;
use crate::http::problem::{Problem, UNAUTHENTICATED, UNAVAILABLE};

/// The beginning of every key.
pub(super) const PREFIX: &str = "pbk_";
/// The beginning of a key's name as a caller. Its id follows.
const CALLER_PREFIX: &str = "key_";
/// The random bytes of a key.
const RANDOM: usize = 32;
/// The length of a key: the prefix and its random bytes in base64.
const LENGTH: usize = PREFIX.len() + (RANDOM * 4).div_ceil(3);
/// The characters of a key behind the prefix that are shown.
const SHOWN: usize = 8;

/// The time after which a key is looked up again.
pub const RECHECK: Duration = Duration::from_secs(4);
/// Maximum keys in each cache.
const CACHE_SIZE: usize = 10_000;
/// Maximum look-ups a second of keys that are in no cache.
const UNKNOWN_A_SECOND: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// The SHA-256 of a key. A key has 256 random bits, so no guess finds one from its hash.
pub type ApiKeyHash = [u8; 32];

/// A key that is not revoked.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: ApiKeyId,
    /// The caller of requests with the key.
    pub user_id: UserId,
    pub scopes: Scopes,
    /// From then on, it is invalid.
    pub expires_at: SystemTime,
}

/// Stores the keys. It is a trait because the database belongs to a service.
pub trait ApiKeyStore: fmt::Debug + Send + Sync {
    /// The key with this hash, unless there is none or it is revoked.
    fn find(&self, hash: ApiKeyHash) -> BoxFuture<'_, Result<Option<ApiKey>, Problem>>;
}

/// A new key, to be shown once. Its `Debug` form has no secret.
pub struct NewApiKey {
    /// The key itself.
    pub secret: String,
    /// Its beginning, to recognize it.
    pub prefix: String,
    pub hash: ApiKeyHash,
}

impl fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewApiKey").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl NewApiKey {
    /// A key of 256 random bits.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut bytes = [0; RANDOM];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| anyhow::anyhow!("the system provides no random numbers"))?;
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let prefix = secret.chars().take(PREFIX.len() + SHOWN).collect();
        Ok(Self { hash: hash(&secret), prefix, secret })
    }
}

fn hash(secret: &str) -> ApiKeyHash {
    let mut hash = ApiKeyHash::default();
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

/// The caller of requests with this key, unless the key acts as another one.
///
/// # Errors
/// None: the name of a key is a valid one.
pub fn key_caller(id: ApiKeyId) -> Result<UserId, ParseIdError> {
    UserId::try_from(format!("{CALLER_PREFIX}{id}"))
}

/// Whether a caller has the name of a key. No token's subject may have one.
pub(super) fn is_key_caller(caller: &UserId) -> bool {
    let id = caller.as_str().strip_prefix(CALLER_PREFIX);
    id.is_some_and(|id| id.parse::<ApiKeyId>().is_ok())
}

/// The keys of a service, with what was looked up lately.
pub(super) struct ApiKeys {
    store: Box<dyn ApiKeyStore>,
    /// The keys that were found.
    known: Cache<ApiKeyHash, Known>,
    /// When keys were not found.
    absent: Cache<ApiKeyHash, Instant>,
    unknown: DefaultDirectRateLimiter,
}

#[derive(Clone)]
struct Known {
    caller: Caller,
    expires_at: SystemTime,
    /// When it was looked up.
    at: Instant,
}

impl Known {
    fn caller(self) -> Result<Caller, Problem> {
        if SystemTime::now() < self.expires_at { Ok(self.caller) } else { Err(invalid()) }
    }
}

impl ApiKeys {
    pub(super) fn new(store: Box<dyn ApiKeyStore>) -> Self {
        Self {
            store,
            known: Cache::new(CACHE_SIZE),
            absent: Cache::new(CACHE_SIZE),
            unknown: RateLimiter::direct(Quota::per_second(UNKNOWN_A_SECOND)),
        }
    }

    /// The caller with this key. `may_try` is asked unless the key was valid before.
    ///
    /// # Errors
    /// `unauthenticated`, with the same words for a key that is unknown, revoked or expired, or
    /// `unavailable`; or the error of `may_try`.
    pub(super) async fn caller(
        &self,
        secret: &str,
        may_try: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<Caller, Problem> {
        if secret.len() != LENGTH {
            may_try()?;
            return Err(invalid());
        }
        let hash = hash(secret);
        let known = self.known.get(&hash);
        let was_known = known.is_some();
        if let Some(known) = known.filter(|known| known.at.elapsed() < RECHECK) {
            return known.caller();
        }
        if !was_known {
            may_try()?;
        }
        if self.absent.get(&hash).is_some_and(|at| at.elapsed() < RECHECK) {
            return Err(invalid());
        }
        // A key that was valid before is not kept out by a flood of others.
        if !was_known && self.unknown.check().is_err() {
            let detail = "Too many unknown API keys are looked up. Nothing was stored.";
            return Err(UNAVAILABLE.because(detail).retry_after(1));
        }
        // Before the look-up: a revocation meanwhile counts when this look-up is too old.
        let at = Instant::now();
        match self.store.find(hash).await? {
            Some(key) => {
                let caller =
                    Caller { user_id: key.user_id, scopes: key.scopes, api_key: Some(key.id) };
                let known = Known { caller, expires_at: key.expires_at, at };
                self.known.insert(hash, known.clone());
                known.caller()
            }
            None => {
                self.known.remove(&hash);
                self.absent.insert(hash, at);
                Err(invalid())
            }
        }
    }
}

fn invalid() -> Problem {
    UNAUTHENTICATED.because("The API key is unknown, revoked or expired.")
}

#[cfg(test)]
mod tests;
