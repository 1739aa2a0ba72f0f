//! Read-only connections, with the limits of their use.

use std::time::Duration;

use runtime::postgres::{CALL_LIMIT, PgPool, check_idle, parse_url};
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
    settings: &'static [(&'static str, &'static str)],
}

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
    let options = options.application_name(usage.application).options([
        // The role has this setting too. It is here for another role in the URL.
        ("default_transaction_read_only", "on"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "25000"),
        ("jit", "off"),
    ]);
    let options = options.options(usage.settings.iter().copied());
    let pool = PgPoolOptions::new()
        .max_connections(usage.connections)
        .acquire_timeout(usage.acquire)
        .max_lifetime(LIFETIME)
        .before_acquire(|connection, about| Box::pin(check_idle(connection, about)));
    Ok(PgPool::connect_lazy(pool, options, usage.call))
}
