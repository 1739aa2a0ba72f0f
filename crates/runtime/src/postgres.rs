//! The connection pool, and what an error of it means.

use std::time::Duration;

use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::config::DatabaseConfig;

/// A connection that was idle for longer is asked before it is used.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// The address and credentials in the configuration.
///
/// # Errors
/// If the URL can't be read. It is not repeated in the error: it holds a
/// password.
pub fn options(config: &DatabaseConfig) -> anyhow::Result<PgConnectOptions> {
    config.database_url.expose().parse().map_err(|_| {
        anyhow::anyhow!(
            "PASSBOOK_DATABASE_URL is no URL like postgres://user:password@host:5432/database"
        )
    })
}

/// A pool that connects when it is first used, so that a process can start
/// before its database does.
///
/// # Errors
/// As [`options`].
pub fn pool(config: &DatabaseConfig, application: &str) -> anyhow::Result<PgPool> {
    let options = options(config)?;
    let options = options.application_name(application).options([
        // What runs longer than this is stuck; a lock is waited for less long still.
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        // A replica that vanishes must not keep its locks until the kernel notices in hours.
        ("idle_in_transaction_session_timeout", "10s"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "25000"),
        // Our statements look rows up by key: to plan one takes longer than many a lookup, and no
        // plan is better than walking the keys in the order in which they are given, which is also
        // that of the locks. A plan is made once, perhaps while a table is still empty: none may be
        // made that only suits a small one.
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(config.database_connections)
        .acquire_timeout(config.database_timeout)
        // One that was in use just now need not be asked whether it still is there.
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

/// Measures how much of the pool is in use now.
pub fn measure(pool: &PgPool) {
    let open = pool.size();
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX).min(open);
    let state = |state| metrics::gauge!("passbook_database_connections", "state" => state);
    state("idle").set(idle);
    state("used").set(open - idle);
    let limit = pool.options().get_max_connections();
    metrics::gauge!("passbook_database_connections_limit").set(limit);
}

/// Says goodbye to the database, if it is there to hear it.
pub async fn close(pool: &PgPool) {
    let closed = tokio::time::timeout(Duration::from_secs(2), pool.close());
    if closed.await.is_err() {
        tracing::warn!("the database did not take the goodbye");
    }
}

/// Whether the same statement can be expected to succeed later. Only what the
/// data itself is to blame for can't: SQLSTATE classes 22 (data exception) and
/// 23 (integrity constraint violation), and values that can't be read or
/// written. Everything else (the database is away, busy, not migrated yet, a
/// password was changed, another transaction was faster) is nobody's message's
/// fault. Classes are those of PostgreSQL's appendix A.
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
