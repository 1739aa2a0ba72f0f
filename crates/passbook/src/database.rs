//! Connections to databases whose URLs people give.

use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

const FORM: &str = "its URL must have the form postgres://user:password@host:5432/database";

/// Connects to a database. Its URL, which holds a password, is in no error.
///
/// # Errors
/// When it is no database's URL, or the database can't be reached.
pub(crate) async fn connect(url: &str) -> Result<PgConnection> {
    ensure!(["postgres://", "postgresql://"].iter().any(|it| url.starts_with(it)), FORM);
    let options = PgConnectOptions::from_str(url).context(FORM)?;
    Ok(options.connect().await?)
}
