//! The connection pool, and what an error of it means.

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::config::DatabaseConfig;

/// A pool that connects when it is first used, so that a process can start
/// before its database does.
///
/// # Errors
/// If the URL can't be read. It is not repeated in the error: it holds a
/// password.
pub fn pool(config: &DatabaseConfig, application: &str) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = config.database_url.expose().parse().map_err(|_| {
        anyhow::anyhow!(
            "PASSBOOK_DATABASE_URL is no URL like postgres://user:password@host:5432/database"
        )
    })?;
    let options = options
        .application_name(application)
        // What runs longer than this is stuck; a lock is waited for less long still.
        .options([("statement_timeout", "10s"), ("lock_timeout", "5s")]);
    Ok(PgPoolOptions::new()
        .max_connections(config.database_connections)
        .acquire_timeout(config.database_timeout)
        .connect_lazy_with(options))
}

/// Whether the same statement can be expected to succeed later: the database
/// is away or busy, or lost a race with another transaction. SQLSTATE classes
/// from PostgreSQL's appendix A.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // 08 connection, 53 resources, 57 operator intervention (also: statement timeout),
            // 40001 serialization failure, 40P01 deadlock, 55P03 lock timeout,
            // 25006 a standby while roles change.
            ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                || ["40001", "40P01", "55P03", "25006"].contains(&code.as_ref())
        }),
        _ => false,
    }
}

/// The name of the constraint that a statement broke, if that is what went
/// wrong.
#[must_use]
pub fn broken_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}
