//! The connection pool, its limits, and the meaning of its errors.

mod pool;
mod renewal;
mod session;
mod single;

use std::{fmt, future::Future, time::Duration};

use clap::Args;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use self::{pool::check_idle, session::OWN};
pub use self::{
    pool::{PgPool, PgTransaction, PooledConnection},
    renewal::note,
    session::{Sessions, Setting},
    single::connect,
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
    /// Maximum age of a connection. It bounds a smart shutdown of PostgreSQL, which waits for all
    /// connections, and the use of a server that a proxy no longer chooses.
    #[arg(long, env = "PASSBOOK_DATABASE_LIFETIME", value_parser = parse_duration, value_name = "DURATION", default_value = "2m")]
    pub database_lifetime: Duration,
}

/// Time limit for one call to the database, above the limit of any statement
/// (`statement_timeout`). Without it, a call to a host that vanished would wait
/// forever.
pub const CALL_LIMIT: Duration = Duration::from_secs(15);

/// The database did not answer within [`CALL_LIMIT`]. A write may still have been
/// committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer from the database within {CALL_LIMIT:?}")]
pub struct NoAnswer;

/// An error of a call to a service's database.
pub trait CallError: fmt::Display + From<NoAnswer> {
    /// Whether the same call can succeed later; see [`is_transient`].
    fn is_transient(&self) -> bool;

    /// Whether a write with this error has certainly stored nothing; see [`stored_nothing`].
    fn stored_nothing(&self) -> bool;
}

/// Runs one call to the database within [`CALL_LIMIT`].
///
/// # Errors
/// [`NoAnswer`]
pub async fn limited<T>(call: impl Future<Output = T>) -> Result<T, NoAnswer> {
    tokio::time::timeout(CALL_LIMIT, call).await.map_err(|_| NoAnswer)
}

/// The connection options in a URL. sqlx passes the brackets of an IPv6 address on to the resolver,
/// which knows no such name.
///
/// # Errors
/// If the URL is malformed.
pub fn parse_url(url: &str) -> sqlx::Result<PgConnectOptions> {
    let options: PgConnectOptions = url.parse()?;
    let bare = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Ok(match bare.map(str::to_owned) {
        Some(address) => options.host(&address),
        None => options,
    })
}

/// The connection options in the configuration.
///
/// # Errors
/// If the URL is malformed. The error does not show the URL, because it contains a
/// password.
pub fn options(config: &DatabaseConfig) -> anyhow::Result<PgConnectOptions> {
    parse_url(config.database_url.expose()).map_err(|_| {
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
    let options = options.application_name(application).options(OWN.sent());
    let pool = PgPoolOptions::new()
        .max_connections(config.database_connections)
        .acquire_timeout(config.database_timeout)
        .max_lifetime(config.database_lifetime)
        .after_connect(|connection, _| Box::pin(OWN.check(connection)))
        .before_acquire(|connection, about| {
            Box::pin(
                async move { Ok(!is_outdated(about.age) && check_idle(connection, about).await?) },
            )
        })
        .after_release(|_, about| Box::pin(async move { Ok(!is_outdated(about.age)) }));
    Ok(PgPool::connect_lazy(pool, options, CALL_LIMIT))
}

/// Whether a connection of this age is closed instead of used.
fn is_outdated(age: Duration) -> bool {
    renewal::is_outdated(age) || OWN.is_mixed(age)
}

/// Why the database takes no writes; `None` if it does. If it is read-only, the pool's
/// connections are closed, because a new one may reach another server.
pub async fn not_writable(pool: &PgPool, limit: Duration) -> Option<String> {
    let query = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'";
    let query = sqlx::query_as::<_, (bool, bool)>(query).fetch_one(pool);
    let reason = match tokio::time::timeout(limit, query).await {
        Ok(Ok((false, false))) => return None,
        Ok(Ok((is_standby, _))) => {
            let reason = if is_standby {
                "the server is a standby, so writes fail"
            } else {
                "transactions are read-only (default_transaction_read_only), so writes fail"
            };
            renewal::renew(&reason);
            return Some(reason.to_owned());
        }
        Ok(Err(error)) => {
            note(&error);
            error.to_string()
        }
        Err(_) => format!("no answer within {limit:?}"),
    };
    // The pool hides why it has no connection.
    Some(match OWN.refused() {
        Some(refused) => format!("{reason}; {refused}"),
        None => reason,
    })
}

/// Sets the gauges of the pool.
pub fn record_metrics(pool: &PgPool) {
    let open = pool.size();
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX).min(open);
    let state = |state| metrics::gauge!("passbook_database_connections", "state" => state);
    state("idle").set(idle);
    state("used").set(open - idle);
    let limit = pool.max_connections();
    metrics::gauge!("passbook_database_connections_limit").set(limit);
}

/// Closes the pool, within two seconds.
pub async fn close(pool: &PgPool) {
    let closed = tokio::time::timeout(Duration::from_secs(2), pool.close());
    if closed.await.is_err() {
        tracing::warn!("closing the database pool timed out");
    }
}

/// Whether a write with this error has certainly stored nothing: no connection was
/// available, or the server rejected the statement. After any other error, such as a
/// connection that was lost during the commit, the write may be stored. The codes are
/// those of PostgreSQL's appendix A.
#[must_use]
pub fn stored_nothing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| match &*code {
            // The completion of the statement is unknown.
            "40003" => false,
            // The statement was cancelled, for example by its time limit; the server starts or stops.
            "57014" | "57P03" => true,
            code => ROLLED_BACK.iter().any(|class| code.starts_with(class)),
        }),
        _ => false,
    }
}

/// Whether a row or key stayed locked by another transaction for longer than the limit
/// (`lock_timeout`). Nothing was written.
#[must_use]
pub fn is_locked(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

/// The classes of errors that end a statement before it commits: invalid or conflicting
/// data, a read-only or aborted transaction, missing rights or objects, a lack of
/// resources, locks.
const ROLLED_BACK: [&str; 10] = ["0A", "22", "23", "25", "28", "3D", "40", "42", "53", "55"];

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

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error::Error, fmt, io};

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    #[derive(Debug)]
    struct Code(&'static str);

    impl fmt::Display for Code {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Code {}

    impl DatabaseError for Code {
        fn message(&self) -> &str {
            self.0
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn a_lost_connection_may_have_stored_and_a_rejected_statement_has_not() {
        assert!(stored_nothing(&sqlx::Error::PoolTimedOut));
        let code = |code| sqlx::Error::Database(Box::new(Code(code)));
        for rolled_back in ["23505", "25006", "40001", "40P01", "53300", "55P03", "57014", "57P03"]
        {
            assert!(stored_nothing(&code(rolled_back)), "{rolled_back}");
        }
        for unknown in ["40003", "57P01", "57P02", "58030", "08006", "XX000"] {
            assert!(!stored_nothing(&code(unknown)), "{unknown}");
        }
        let lost = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(!stored_nothing(&sqlx::Error::Io(lost)));
        assert!(!stored_nothing(&sqlx::Error::WorkerCrashed));
    }

    #[test]
    fn an_ipv6_address_in_a_url_loses_its_brackets() {
        let host = |url| parse_url(url).unwrap().get_host().to_owned();
        assert_eq!(host("postgres://u:p@[::1]:5432/d"), "::1");
        assert_eq!(host("postgres://u:p@db.example:5432/d"), "db.example");
    }
}
