//! The pool, with a time limit for each use of a connection.
//!
//! A host can vanish without a packet: a power cut, a failover, a lost NAT entry. Its
//! connections then stay silent, and the kernel reports this after 15 minutes. sqlx
//! sets no keepalive, gives no access to the socket, and pings a connection without a
//! limit before it returns to the pool. Its slot stays taken for as long. So these types
//! stand between the services and sqlx's pool:
//!
//! - A statement without an answer within the limit ends with an error, and its
//!   connection is dropped.
//! - A connection that does not answer the ping of its return is dropped.
//!
//! A dropped connection frees its slot at once. A keepalive alone would not do: the
//! kernel of a frozen host, or a proxy, still answers it.

mod executor;

use std::{
    fmt, io,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Connection, PgConnection, Postgres, SqlSafeStr,
    pool::{PoolConnection, PoolConnectionMetadata},
    postgres::{PgConnectOptions, PgPoolOptions, PgTransactionManager},
};
use sqlx_core::transaction::TransactionManager;
use tokio::time::{error::Elapsed, timeout};

use super::{renewal, session::Sessions};

/// A connection is pinged before use if it was idle for longer than this.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// Time limit for that ping. The pool then opens another connection, within the same time
/// limit for getting one.
const PING_LIMIT: Duration = Duration::from_secs(1);
/// Time limit for the ping before a connection returns to the pool. A statement that was
/// abandoned may still run for some time.
const RETURN_LIMIT: Duration = Duration::from_secs(5);

/// A pool of connections to PostgreSQL. Clones share it.
#[derive(Clone)]
pub struct PgPool {
    inner: sqlx::Pool<Postgres>,
    /// Time limit for one statement, above `statement_timeout`.
    limit: Duration,
    /// The sessions, if the pool itself says why they are refused.
    sessions: Option<Arc<Sessions>>,
}

impl PgPool {
    /// A pool that connects on first use.
    #[must_use]
    pub fn connect_lazy(pool: PgPoolOptions, to: PgConnectOptions, limit: Duration) -> Self {
        let inner = pool.test_before_acquire(false).connect_lazy_with(to);
        Self { inner, limit, sessions: None }
    }

    /// A pool that connects on first use, for readers. Each session is sent its settings, and
    /// refused if it lacks one. The reason is the error of [`PgPool::acquire`].
    #[must_use]
    pub fn of_readers(
        pool: PgPoolOptions,
        to: PgConnectOptions,
        limit: Duration,
        sessions: Sessions,
    ) -> Self {
        let to = to.options(sessions.sent());
        let sessions = Arc::new(sessions);
        let (new, idle) = (Arc::clone(&sessions), Arc::clone(&sessions));
        let pool = pool
            .after_connect(move |connection, _| {
                let sessions = Arc::clone(&new);
                Box::pin(async move { sessions.check(connection).await })
            })
            .before_acquire(move |connection, about| {
                let is_mixed = idle.is_mixed(about.age);
                Box::pin(async move { Ok(!is_mixed && check_idle(connection, about).await?) })
            });
        Self { sessions: Some(sessions), ..Self::connect_lazy(pool, to, limit) }
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// If there is none within the pool's time limit, or PostgreSQL rejects it.
    pub async fn acquire(&self) -> sqlx::Result<PooledConnection> {
        let connection = self.inner.acquire().await.map_err(|error| self.reason(error))?;
        Ok(PooledConnection { connection, sessions: self.sessions.clone() })
    }

    /// Why there is no connection.
    fn reason(&self, error: sqlx::Error) -> sqlx::Error {
        let refused = || self.sessions.as_ref().and_then(|sessions| sessions.refused());
        match error {
            sqlx::Error::PoolTimedOut => refused().map_or(sqlx::Error::PoolTimedOut, |reason| {
                sqlx::Error::Configuration(reason.into())
            }),
            error => error,
        }
    }

    /// For the error of a statement in a transaction of readers: refuses all sessions if another
    /// client's statement answered. If the connection is lost, the others are pinged before their
    /// next use.
    pub fn note(&self, error: &sqlx::Error) {
        renewal::note_lost(error);
        note_mixed(self.sessions.as_ref(), error);
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As [`PgPool::acquire`], or the database's error.
    pub async fn begin(&self) -> sqlx::Result<PgTransaction> {
        self.begin_with("BEGIN").await
    }

    /// Begins a transaction with this statement.
    ///
    /// # Errors
    /// As [`PgPool::begin`].
    pub async fn begin_with(&self, statement: impl SqlSafeStr) -> sqlx::Result<PgTransaction> {
        let statement = Some(statement.into_sql_str());
        let connection = self.acquire().await?;
        let mut transaction = PgTransaction { connection, state: State::Begins };
        let begun = PgTransactionManager::begin(&mut transaction.connection, statement);
        let begun = timeout(self.limit, begun).await;
        transaction.connection.answered(begun, self.limit)?;
        transaction.state = State::Open;
        Ok(transaction)
    }

    /// The number of open connections.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.inner.size()
    }

    /// The number of idle connections.
    #[must_use]
    pub fn num_idle(&self) -> usize {
        self.inner.num_idle()
    }

    /// The maximum number of connections.
    #[must_use]
    pub fn max_connections(&self) -> u32 {
        self.inner.options().get_max_connections()
    }

    /// Closes all connections, and waits for those in use.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}

/// Pings a connection before its use, unless it was in use just now and no other was lost since.
///
/// # Errors
/// If it is lost. The pool then opens another one.
pub(super) async fn check_idle(
    connection: &mut PgConnection,
    about: PoolConnectionMetadata,
) -> sqlx::Result<bool> {
    if about.idle_for > TRUSTED_FOR || renewal::may_be_lost(about.idle_for) {
        let answer = timeout(PING_LIMIT, connection.ping()).await;
        let answer = answer.unwrap_or_else(|_| Err(no_answer(PING_LIMIT)));
        answer.inspect_err(renewal::note_lost)?;
    }
    Ok(true)
}

fn note_mixed(sessions: Option<&Arc<Sessions>>, error: &sqlx::Error) {
    if sessions.is_some_and(|sessions| sessions.note_mixed(error)) {
        tracing::warn!(%error, "another client's statement answered: the sessions are closed");
    }
}

fn no_answer(limit: Duration) -> sqlx::Error {
    let text = format!("no answer from the database within {limit:?}");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}

impl fmt::Debug for PgPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A connection of the pool. On drop it returns to the pool, if it answers.
///
/// It must not be used after `answered` gave an error for the limit.
#[derive(Debug)]
pub struct PooledConnection {
    connection: PoolConnection<Postgres>,
    sessions: Option<Arc<Sessions>>,
}

impl PooledConnection {
    /// Drops the connection if there was no answer in time.
    fn answered<T>(
        &mut self,
        answer: Result<sqlx::Result<T>, Elapsed>,
        limit: Duration,
    ) -> sqlx::Result<T> {
        let answer = answer.unwrap_or_else(|_| {
            self.discard();
            Err(no_answer(limit))
        });
        answer.inspect_err(|error| note_mixed(self.sessions.as_ref(), error))
    }

    /// Drops the connection instead of its return to the pool.
    fn discard(&mut self) {
        // The future owns the connection.
        drop(self.connection.return_to_pool());
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        // At the limit the future is dropped, and the connection with it.
        let returned = timeout(RETURN_LIMIT, self.connection.return_to_pool());
        tokio::spawn(async {
            if returned.await.is_err() {
                tracing::warn!("a database connection gave no answer and was dropped");
            }
        });
    }
}

impl Deref for PooledConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A transaction. On drop it is rolled back. Its statements have no limit of their own:
/// see [`super::limited`].
#[derive(Debug)]
pub struct PgTransaction {
    connection: PooledConnection,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// BEGIN may have been sent.
    Begins,
    Open,
    Ended,
}

impl PgTransaction {
    /// Commits.
    ///
    /// # Errors
    /// The database's error. Unless the database rejected the commit, its outcome is unknown.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        PgTransactionManager::commit(&mut self.connection).await?;
        self.state = State::Ended;
        Ok(())
    }

    /// Rolls back.
    ///
    /// # Errors
    /// The database's error.
    pub async fn rollback(mut self) -> sqlx::Result<()> {
        PgTransactionManager::rollback(&mut self.connection).await?;
        self.state = State::Ended;
        Ok(())
    }
}

impl Drop for PgTransaction {
    fn drop(&mut self) {
        match self.state {
            // sqlx rolls back only what it knows to be open.
            State::Begins => self.connection.discard(),
            // Sent with the ping of the return.
            State::Open => PgTransactionManager::start_rollback(&mut self.connection),
            State::Ended => {}
        }
    }
}

impl Deref for PgTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for PgTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
