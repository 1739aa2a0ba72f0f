//! One replica behind the proxy, and its readiness.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use tokio::{net::TcpStream, time::sleep};
use tracing::info;

use super::connection::Connection;

const CHECK_INTERVAL: Duration = Duration::from_millis(200);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Shorter than the idle timeout of the replicas, so that the proxy closes an
/// idle connection first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Upstream {
    /// The name of its process.
    pub(super) name: String,
    /// The address of its API: `127.0.0.1:20001`.
    pub(super) authority: String,
    readyz_url: String,
    ready: AtomicBool,
    /// Idle connections, each with the time of its last use.
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Upstream {
    /// A replica that counts as ready until the first check.
    pub(crate) fn new(name: String, authority: String, readyz_url: String) -> Self {
        let (ready, idle) = (AtomicBool::new(true), Mutex::default());
        Self { name, authority, readyz_url, ready, idle }
    }

    /// An idle connection, or a new one.
    pub(super) async fn connection(&self) -> io::Result<Connection> {
        let is_fresh = |since: &Instant| since.elapsed() < IDLE_TIMEOUT;
        while let Some((since, connection)) = self.idle().pop() {
            // The replica closes its connections when it stops.
            if is_fresh(&since) && connection.is_idle() {
                return Ok(connection);
            }
        }
        TcpStream::connect(&self.authority).await.map(Connection::new)
    }

    /// Keeps a connection for another request.
    pub(super) fn put_back(&self, connection: Connection) {
        self.idle().push((Instant::now(), connection));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Sets the readiness until the next check. Returns whether it changed.
    pub(super) fn set_ready(&self, ready: bool) -> bool {
        self.ready.swap(ready, Ordering::Relaxed) != ready
    }

    /// Checks the readiness again and again, and closes connections that were
    /// idle for too long. Never returns.
    pub(super) async fn watch_readiness(self: Arc<Self>, http: reqwest::Client) {
        loop {
            let response = http.get(&self.readyz_url).timeout(CHECK_TIMEOUT).send().await;
            let ready = response.is_ok_and(|response| response.status() == StatusCode::OK);
            if self.set_ready(ready) {
                let state = if ready { "is ready" } else { "is not ready" };
                info!("{} {state}", self.name);
            }
            self.idle().retain(|(since, _)| since.elapsed() < IDLE_TIMEOUT);
            sleep(CHECK_INTERVAL).await;
        }
    }
}
