//! Ends the command when a database server has fallen silent.
//!
//! A host can vanish without a packet: a power cut, a failover, a lost NAT entry. A client that
//! waits for an answer then waits for ever: sqlx sets no keepalive, and gives no access to the
//! socket. A time limit for statements would not do, because a migration may build an index for
//! hours. So a second connection is opened beside the command's own ones, and pinged. The same
//! outage silences all of them.
//!
//! One such connection for each server, until the end of the process.

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Error, anyhow};
use runtime::postgres;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// The interval between two pings.
const EVERY: Duration = Duration::from_secs(5);
/// A server without an answer for this long counts as vanished: the limit of the services, too.
const LIMIT: Duration = Duration::from_secs(15);

/// The pinged servers, as `host:port`.
static SERVERS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// The server that has fallen silent.
static SILENT: OnceLock<String> = OnceLock::new();
static NOTIFY: Notify = Notify::const_new();

/// Waits until a server has fallen silent. Without a connection to a database, waits for ever.
pub(crate) async fn silent_server() -> Error {
    NOTIFY.notified().await;
    let server = SILENT.get().map(String::as_str).unwrap_or_default();
    anyhow!(
        "PostgreSQL at {server} has given no answer for {} s: its host or the network may be gone. \
         The last change may be stored or not. Run the command again once the server answers: it \
         continues where it ended",
        LIMIT.as_secs()
    )
}

/// Begins to ping a server, unless it is pinged already.
pub(crate) fn watch(options: &PgConnectOptions) {
    let server = format!("{}:{}", options.get_host(), options.get_port());
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    if servers.insert(server.clone()) {
        let options = options.clone().application_name("passbook ping");
        tokio::spawn(async move {
            while answers(&options).await {
                sleep(EVERY).await;
            }
            if SILENT.set(server).is_ok() {
                NOTIFY.notify_one();
            }
        });
    }
}

/// Pings over one connection until it is closed, and gives true; false if it falls silent. A
/// closed one says nothing: the command's own connections report the reason themselves.
async fn answers(options: &PgConnectOptions) -> bool {
    let Some(mut connection) = connect(options).await else { return true };
    loop {
        sleep(EVERY).await;
        match timeout(LIMIT, connection.ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return true,
            Err(_) => return false,
        }
    }
}

/// A connection that has answered once. There may be none, for example at the limit of the server
/// or of a pooler.
async fn connect(options: &PgConnectOptions) -> Option<PgConnection> {
    let connection = postgres::connect(options).await;
    let note = |error: &sqlx::Error| tracing::debug!(%error, "no second connection to watch over the server");
    connection.inspect_err(note).ok()
}
