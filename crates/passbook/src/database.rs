//! Connections to databases at URLs from the command line.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runtime::postgres::parse_url;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

const FORM: &str = "its URL must have the form postgres://user:password@host:5432/database";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Connects to a database.
///
/// # Errors
/// When the URL is malformed or the database can't be reached.
pub(crate) async fn connect(url: &str) -> Result<PgConnection> {
    let options = options(url)?;
    // Reading a whole table is slow and no reason for sqlx's warning about slow statements.
    let options = options.disable_statement_logging();
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    let timed_out = || format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
    Ok(connection.with_context(timed_out)??)
}
