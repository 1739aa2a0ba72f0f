//! The present keys of tokens, and the task that keeps them current. If the source fails, the
//! last good keys stay.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use axum::http::Uri;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use quick_cache::sync::Cache;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Caller,
    jwks::KeySet,
    source::{FETCH_LIMIT, Source, read_file},
};
use crate::{
    health::{Health, Need},
    http::client::HttpClient,
};

/// Minimum interval of the fetches that unknown keys cause.
const REFETCH_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum requests that wait for such a fetch.
const MOST_WAITING: usize = 256;
/// The interval of looks at a file.
const FILE_INTERVAL: Duration = Duration::from_secs(2);
/// The interval of fetches after a failure, before the first success.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The same once there are keys.
const RETRY: Duration = Duration::from_secs(30);

/// Maximum cached tokens.
const CACHE_SIZE: usize = 10_000;
/// Maximum length of a cached token in bytes. It bounds the size of the cache.
const LONGEST_CACHED: usize = 2048;

/// Without keys, no token can be verified, and the process is not ready.
const KEYS: &str = "token-keys";
/// The process is ready while its source of keys fails.
const SOURCE: &str = "token-keys-source";

pub(super) struct Keys {
    source: Source,
    /// The interval of fetches.
    refresh: Duration,
    current: RwLock<Option<Arc<LoadedKeys>>>,
    refetch: Mutex<Refetch>,
    wanted: Notify,
    /// Changes after each fetch for an unknown key.
    refetched: watch::Sender<()>,
    waiting: Semaphore,
}

/// The fetches for unknown keys.
#[derive(Default)]
struct Refetch {
    last: Option<Instant>,
    is_running: bool,
}

/// Keys, and the valid tokens verified with them: a token is forgotten with its key.
pub(super) struct LoadedKeys {
    pub(super) set: KeySet,
    document: Vec<u8>,
    valid: Cache<Box<str>, ValidToken>,
}

/// A token's caller and expiry.
#[derive(Clone)]
struct ValidToken {
    caller: Caller,
    until: SystemTime,
}

impl LoadedKeys {
    fn parse(document: Vec<u8>) -> anyhow::Result<Self> {
        let set = KeySet::parse(&document)?;
        Ok(Self { set, document, valid: Cache::new(CACHE_SIZE) })
    }

    /// The caller, if the token is cached and has not expired.
    pub(super) fn cached(&self, token: &str, now: SystemTime) -> Option<Caller> {
        self.valid.get(token).filter(|token| now <= token.until).map(|token| token.caller)
    }

    /// Caches a valid token.
    pub(super) fn cache(&self, token: &str, caller: Caller, until: SystemTime) {
        if token.len() <= LONGEST_CACHED {
            self.valid.insert(token.into(), ValidToken { caller, until });
        }
    }
}

impl Keys {
    /// Fetches keys from a URL, again after `refresh`.
    ///
    /// # Errors
    /// If the machine has no root certificates.
    pub(super) fn at_url(url: Uri, refresh: Duration) -> anyhow::Result<Self> {
        Ok(Self::new(Source::Url(Box::new(HttpClient::new(url)?)), refresh, None))
    }

    /// Reads the keys of a file, again when it changes.
    ///
    /// # Errors
    /// If the file is not a usable key set.
    pub(super) fn in_file(path: PathBuf) -> anyhow::Result<Self> {
        let keys = LoadedKeys::parse(read_file(&path)?);
        let keys = keys.with_context(|| path.display().to_string())?;
        Ok(Self::new(Source::File(path), FILE_INTERVAL, Some(keys)))
    }

    /// The keys of this document, for ever.
    #[cfg(test)]
    pub(super) fn fixed(document: &[u8]) -> anyhow::Result<Self> {
        let keys = LoadedKeys::parse(document.to_vec())?;
        Ok(Self::new(Source::File(PathBuf::new()), FILE_INTERVAL, Some(keys)))
    }

    fn new(source: Source, refresh: Duration, keys: Option<LoadedKeys>) -> Self {
        Self {
            source,
            refresh,
            current: RwLock::new(keys.map(Arc::new)),
            refetch: Mutex::default(),
            wanted: Notify::new(),
            refetched: watch::Sender::default(),
            waiting: Semaphore::new(MOST_WAITING),
        }
    }

    /// The present keys, unless none were loaded yet.
    pub(super) fn current(&self) -> Option<Arc<LoadedKeys>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches the keys once more, because a token has an unknown one, and waits for the end of
    /// that fetch. There is one at a time, and one in [`REFETCH_INTERVAL`]. A file needs none.
    pub(super) async fn refetch(&self) {
        let Source::Url(_) = &self.source else { return };
        let Ok(_permit) = self.waiting.try_acquire() else { return };
        let mut refetched = self.refetched.subscribe();
        {
            let mut refetch = self.refetch.lock().unwrap_or_else(PoisonError::into_inner);
            if !refetch.is_running {
                if refetch.last.is_some_and(|last| last.elapsed() < REFETCH_INTERVAL) {
                    return;
                }
                *refetch = Refetch { last: Some(Instant::now()), is_running: true };
                self.wanted.notify_one();
            }
        }
        // A scheduled fetch may still have to end before.
        let _ = tokio::time::timeout(FETCH_LIMIT * 2, refetched.changed()).await;
    }

    /// Adds the conditions of the keys.
    pub(super) fn expect(&self, health: &Health) {
        describe_counter!("passbook_jwks_loads_total", "Loads of the keys of tokens, by outcome.");
        describe_gauge!("passbook_jwks_keys", "Usable keys of tokens.");
        health.expect(KEYS, Need::Required);
        health.expect(SOURCE, Need::Degraded);
    }

    /// Loads the keys again and again, until `stop`.
    pub(super) async fn keep_current(&self, health: Health, stop: CancellationToken) {
        let mut is_refetch = false;
        while let Some(loaded) = stop.run_until_cancelled(self.load()).await {
            let outcome = if loaded.is_ok() { "loaded" } else { "failed" };
            counter!("passbook_jwks_loads_total", "outcome" => outcome).increment(1);
            let failed = loaded.as_ref().err().map(|error| format!("{error:#}"));
            if self.current().is_some() {
                health.set(KEYS, None);
            } else {
                health.set(KEYS, failed.clone());
            }
            health.set(SOURCE, failed);
            if is_refetch {
                let mut refetch = self.refetch.lock().unwrap_or_else(PoisonError::into_inner);
                refetch.is_running = false;
                drop(refetch);
                self.refetched.send_replace(());
            }
            let pause = match loaded {
                Ok(()) => self.refresh,
                Err(_) if self.current().is_some() => self.refresh.min(RETRY),
                Err(_) => FIRST_RETRY,
            };
            is_refetch = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => false,
                () = self.wanted.notified() => true,
            };
        }
    }

    /// Loads the keys once. Without a change, the present ones stay.
    async fn load(&self) -> anyhow::Result<()> {
        let document = self.source.read().await?;
        let is_present = self.current().is_some_and(|keys| keys.document == document);
        let keys = if is_present { None } else { Some(LoadedKeys::parse(document)?) };
        if let Some(keys) = keys {
            tracing::info!(keys = keys.set.len(), "the keys of tokens were loaded");
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            *current = Some(Arc::new(keys));
        }
        let count = self.current().map_or(0, |keys| keys.set.len());
        gauge!("passbook_jwks_keys").set(u32::try_from(count).unwrap_or(u32::MAX));
        Ok(())
    }
}
