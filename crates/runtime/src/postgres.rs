//! The connection pool, its limits, and the meaning of its errors.

use std::{future::Future, time::Duration};

use clap::Args;
use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::setting::{Secret, parse_duration};

/// The connection pool of the service's own database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseConfig {
    /// PostgreSQL connection URL. It contains a password: set the variable, not the flag.
    #[arg(long, env = "PASSBOOK_DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
    /// Maximum connections: 1 to 1000.
    #[arg(long, env = "PASSBOOK_DATABASE_CONNECTIONS", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,
    /// Time limit for getting a connection from the pool. After it, a request is answered with
    /// 503, and a worker retries.
    #[arg(long, env = "PASSBOOK_DATABASE_TIMEOUT", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub database_timeout: Duration,
}

/// A connection is pinged before use if it was idle for longer than this.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Time limit for one call to the database, above the limit of any statement
/// (`statement_timeout`). Without it, a call to a host that vanished would wait
/// forever.
pub const CALL_LIMIT: Duration = Duration::from_secs(15);

/// The database did not answer within [`CALL_LIMIT`]. A write may still have been
/// committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer from the database within {CALL_LIMIT:?}")]
pub struct NoAnswer;

/// Runs one call to the database within [`CALL_LIMIT`].
///
/// # Errors
/// [`NoAnswer`]
pub async fn limited<T>(call: impl Future<Output = T>) -> Result<T, NoAnswer> {
    tokio::time::timeout(CALL_LIMIT, call).await.map_err(|_| NoAnswer)
}

/// The connection options in the configuration.
///
/// # Errors
/// If the URL is malformed. The error does not show the URL, because it contains a
/// password.
pub fn options(config: &DatabaseConfig) -> anyhow::Result<PgConnectOptions> {
    config.database_url.expose().parse().map_err(|_| {
        anyhow::anyhow!(
            "PASSBOOK_DATABASE_URL must be like postgres://user:password@host:5432/database"
        )
    })
}

/// A pool that connects on first use, so that a process can start before its
/// database.
///
/// # Errors
/// As [`options`].
pub fn pool(config: &DatabaseConfig, application: &str) -> anyhow::Result<PgPool> {
    let options = options(config)?;
    let options = options.application_name(application).options([
        // Any statement that runs for longer is stuck.
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        // A replica that vanishes must not keep its locks until the kernel's keepalive ends.
        ("idle_in_transaction_session_timeout", "10s"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "25000"),
        // All statements look up rows by key. Planning takes longer than many lookups. No plan
        // beats an index scan in the given order of keys, which is also the order of the locks. A
        // generic plan is made once, perhaps while the table is empty, so plans that suit only
        // small tables are disabled.
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(config.database_connections)
        .acquire_timeout(config.database_timeout)
        // A connection that was just in use needs no ping.
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > TRUSTED_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options))
}

/// Sets the gauges of the pool.
pub fn record_metrics(pool: &PgPool) {
    let open = pool.size();
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX).min(open);
    let state = |state| metrics::gauge!("passbook_database_connections", "state" => state);
    state("idle").set(idle);
    state("used").set(open - idle);
    let limit = pool.options().get_max_connections();
    metrics::gauge!("passbook_database_connections_limit").set(limit);
}

/// Closes the pool, within two seconds.
pub async fn close(pool: &PgPool) {
    let closed = tokio::time::timeout(Duration::from_secs(2), pool.close());
    if closed.await.is_err() {
        tracing::warn!("closing the database pool timed out");
    }
}

/// Whether the same statement can succeed later. Permanent errors come from the
/// data itself: SQLSTATE classes 22 (data exception) and 23 (integrity
/// constraint violation), and values that can't be decoded or encoded. All other
/// errors are transient: the database is unreachable, busy or not migrated yet, a
/// password was changed, or a transaction conflicted with another one. The classes
/// are those of PostgreSQL's appendix A.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            !error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
        }
        sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Encode(_)
        | sqlx::Error::RowNotFound => false,
        _ => true,
    }
}
