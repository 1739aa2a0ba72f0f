//! One replica behind the proxy, and its readiness.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncWriteExt, sink},
    net::TcpStream,
    time::{sleep, timeout},
};
use tracing::info;

use super::{
    connection::{Connection, receive},
    exchange::read_response,
};

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
    /// The address of its admin port.
    admin: String,
    ready: AtomicBool,
    /// Idle connections, each with the time of its last use.
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Upstream {
    /// A replica that counts as ready until the first check.
    pub(crate) fn new(name: String, authority: String, admin: String) -> Self {
        let (ready, idle) = (AtomicBool::new(true), Mutex::default());
        Self { name, authority, admin, ready, idle }
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
    pub(super) async fn watch_readiness(self: Arc<Self>) {
        let mut connection = None;
        loop {
            let ready = match self.check(connection.take()).await {
                Ok((ready, open)) => {
                    connection = Some(open);
                    ready
                }
                Err(_) => false,
            };
            if self.set_ready(ready) {
                let state = if ready { "is ready" } else { "is not ready" };
                info!("{} {state}", self.name);
            }
            self.idle().retain(|(since, _)| since.elapsed() < IDLE_TIMEOUT);
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Whether the replica is ready, and the connection for the next check. If
    /// the replica closed the given connection, a new one is used.
    async fn check(&self, open: Option<Connection>) -> io::Result<(bool, Connection)> {
        let connection = match open.filter(Connection::is_idle) {
            Some(connection) => connection,
            None => {
                Connection::new(timeout(CHECK_TIMEOUT, TcpStream::connect(&self.admin)).await??)
            }
        };
        timeout(CHECK_TIMEOUT, readyz(connection)).await?
    }
}

async fn readyz(mut connection: Connection) -> io::Result<(bool, Connection)> {
    let Connection { stream, received } = &mut connection;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: admin\r\n\r\n").await?;
    let mut head = read_response(stream, received, &mut sink(), false).await?;
    received.drain(..head.length);
    loop {
        let used = head.body.consume(received)?;
        received.drain(..used);
        if head.body.is_done() {
            return Ok((head.status == 200, connection));
        }
        if receive(stream, received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
