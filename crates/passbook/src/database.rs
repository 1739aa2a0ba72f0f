//! Connections to databases at URLs from the command line.

mod silence;

use anyhow::{Context, Result, ensure};
use runtime::postgres::{self, parse_url};
use sqlx::{PgConnection, postgres::PgConnectOptions};

pub(crate) use silence::{silent_server, watch};

const FORM: &str = "its URL must have the form postgres://user:password@host:5432/database";

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
    Ok(postgres::connect(&options(url)?).await?)
}
