//! One replica behind the proxy, and its readiness.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use tokio::time::sleep;
use tracing::info;

const CHECK_INTERVAL: Duration = Duration::from_millis(200);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Upstream {
    /// The name of its process.
    pub(super) name: String,
    /// The address of its API: `127.0.0.1:20001`.
    pub(super) authority: String,
    readyz_url: String,
    ready: AtomicBool,
}

impl Upstream {
    /// A replica that counts as ready until the first check.
    pub(crate) fn new(name: String, authority: String, readyz_url: String) -> Self {
        Self { name, authority, readyz_url, ready: AtomicBool::new(true) }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Sets the readiness until the next check. Returns whether it changed.
    pub(super) fn set_ready(&self, ready: bool) -> bool {
        self.ready.swap(ready, Ordering::Relaxed) != ready
    }

    /// Checks the readiness again and again. Never returns.
    pub(super) async fn watch_readiness(self: Arc<Self>, http: reqwest::Client) {
        loop {
            let response = http.get(&self.readyz_url).timeout(CHECK_TIMEOUT).send().await;
            let ready = response.is_ok_and(|response| response.status() == StatusCode::OK);
            if self.set_ready(ready) {
                let state = if ready { "is ready" } else { "is not ready" };
                info!("{} {state}", self.name);
            }
            sleep(CHECK_INTERVAL).await;
        }
    }
}
