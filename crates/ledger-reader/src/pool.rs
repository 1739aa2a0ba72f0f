//! Read-only connections, with the limits of their use.

use std::time::Duration;

use runtime::postgres::{CALL_LIMIT, PgPool, Sessions, Setting, parse_url};
use sqlx::postgres::PgPoolOptions;

/// Maximum age of a connection. A smart shutdown of the server waits for all connections.
const LIFETIME: Duration = Duration::from_secs(120);
/// Connections of one process: the report-service has one for each running report, and one for
/// requests.
const CONNECTIONS: u32 = 4;

/// The URL of a database is malformed. The error does not show the URL, because it
/// contains a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be like postgres://role:password@host:5432/database")]
pub struct InvalidUrl;

/// What the sessions of a pool may take.
pub(crate) struct Use {
    application: &'static str,
    connections: u32,
    /// Time limit for getting a connection from the pool.
    acquire: Duration,
    /// Time limit for one statement, above `statement_timeout`.
    call: Duration,
    settings: &'static [Setting],
}

/// The settings of all readers.
const SETTINGS: [Setting; 2] = [
    // The role has this setting too. It is here for another role in the URL.
    ("default_transaction_read_only", "on"),
    ("jit", "off"),
];

/// For reports.
pub(crate) const REPORTS: Use = Use {
    application: "report-service",
    connections: CONNECTIONS,
    acquire: Duration::from_secs(10),
    call: CALL_LIMIT,
    settings: &[
        // An activity report reads millions of rows in one statement.
        ("statement_timeout", "15min"),
        ("lock_timeout", "5s"),
        // The snapshot of a report that hangs keeps dead rows from being removed.
        ("idle_in_transaction_session_timeout", "5min"),
    ],
};

/// For requests that read rows by key.
pub(crate) const REQUESTS: Use = Use {
    application: "account-service",
    connections: CONNECTIONS,
    // A read has 5 s in all. On a busy machine, a new connection takes two of them.
    acquire: Duration::from_secs(4),
    call: Duration::from_secs(4),
    settings: &[
        ("statement_timeout", "3s"),
        ("lock_timeout", "1s"),
        ("idle_in_transaction_session_timeout", "5s"),
        // Rows are looked up by key. No plan beats an index scan for each key.
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
    ],
};

/// A pool for the role `report_reader` in either database. It connects on first use.
///
/// # Errors
/// [`InvalidUrl`]
pub fn report_pool(url: &str) -> Result<PgPool, InvalidUrl> {
    pool(url, &REPORTS)
}

/// A pool for this use.
///
/// # Errors
/// [`InvalidUrl`]
pub(crate) fn pool(url: &str, usage: &Use) -> Result<PgPool, InvalidUrl> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(InvalidUrl);
    }
    let options = parse_url(url).map_err(|_| InvalidUrl)?;
    let options = options.application_name(usage.application);
    let settings = SETTINGS.into_iter().chain(usage.settings.iter().copied()).collect();
    let pool = PgPoolOptions::new()
        .max_connections(usage.connections)
        .acquire_timeout(usage.acquire)
        .max_lifetime(LIFETIME);
    Ok(PgPool::of_readers(pool, options, usage.call, Sessions::new(settings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_settings_of_the_roles_are_those_that_are_compared() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/deploying.md");
        let document = std::fs::read_to_string(document).unwrap();
        for (role, usage) in [("ledger_reader", &REQUESTS), ("report_reader", &REPORTS)] {
            // `passbook provision` makes the role's transactions read-only.
            for (name, value) in SETTINGS.iter().skip(1).chain(usage.settings) {
                let row = format!("('{role}', '{name}', '{value}')");
                assert!(document.contains(&row), "{row}");
            }
        }
    }
}
