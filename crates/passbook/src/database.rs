//! Connections to databases at URLs from the command line.

mod silence;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runtime::postgres::parse_url;
use sqlx::{ConnectOptions, Executor, PgConnection, postgres::PgConnectOptions};

pub(crate) use silence::{silent_server, watch};

const FORM: &str = "its URL must have the form postgres://user:password@host:5432/database";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server ends a session, and its locks, about 25 s after its client has vanished. The probes
/// also keep NAT entries alive during a long statement.
const KEEPALIVES: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000";

/// The URLs of the databases with records and transactions.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseUrls {
    /// The account-service's database.
    pub(crate) account: String,
    /// The transaction-service's database.
    pub(crate) transaction: String,
}

/// Parses a database's URL.
///
/// # Errors
/// When the URL is malformed. The error does not contain the URL, because the URL contains a
/// password.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions> {
    ensure!(["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)), FORM);
    Ok(parse_url(url).context(FORM)?.application_name("passbook"))
}

/// Connects to a database. From now on, the command ends when the server falls silent: see
/// [`silent_server`].
///
/// # Errors
/// When the URL is malformed or the database can't be reached.
pub(crate) async fn connect(url: &str) -> Result<PgConnection> {
    let connection = connect_limited(url).await?;
    watch(&options(url)?);
    Ok(connection)
}

/// Connects to a database, for a caller that limits the time of each of its statements, and goes
/// on after one without an answer.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn connect_limited(url: &str) -> Result<PgConnection> {
    connect_with(options(url)?).await
}

/// As [`connect_limited`], with these options.
pub(crate) async fn connect_with(options: PgConnectOptions) -> Result<PgConnection> {
    // Reading a whole table is slow and no reason for sqlx's warning about slow statements.
    let options = options.disable_statement_logging();
    let connect = async {
        let mut connection = options.connect().await?;
        connection.execute(KEEPALIVES).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
    let timed_out = || format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
    Ok(connection.with_context(timed_out)??)
}
