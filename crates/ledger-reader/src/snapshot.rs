//! The snapshot that a report or a past balance is read from.
//!
//! A transaction gets its time before it commits. A report made between the two would
//! miss the transaction, and the same report made later would have it. So a snapshot
//! of everything before an instant is taken only when no writer can commit an earlier
//! time any more:
//!
//! - A writer reads the clock while it holds a lock on the ledger's table `accounts`,
//!   and keeps this lock until its commit is visible. Once the database's clock has
//!   reached the instant, any writer with an earlier time has ended or holds this lock.
//!   The view `reporting.writers` lists the holders. When those of that moment have
//!   ended, a new snapshot sees all their rows.
//! - A replica does not know the writers of its primary. It must have replayed a commit
//!   later than the instant plus [`REPLICA_MARGIN`], the longest time from a writer's
//!   clock to its commit. Replay has the order of the commits. Any database of
//!   the server counts, so the report-service's own commits are enough if it uses the
//!   same server.
//!
//! The snapshot's `xmax` would be no limit for this: it is the last *ended* transaction
//! id plus one, and running writers can be above it.

use std::{collections::HashSet, future::Future, time::Duration};

use runtime::postgres::{PgPool, PgTransaction};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use crate::pool::{InvalidUrl, REPORTS, REQUESTS, pool};

/// Longest time between a writer's clock and its commit. The ledger's statements and
/// idle transactions are limited to 10 s each; after its clock, a writer has at most two
/// statements left.
pub const REPLICA_MARGIN: Duration = Duration::from_secs(60);
/// How often the end of writers is polled. Most end within milliseconds, so the first pause is
/// shorter, and each further one twice as long.
const POLL: Duration = Duration::from_millis(50);
const FIRST_POLL: Duration = Duration::from_millis(2);

/// A read-only transaction with one snapshot of the ledger.
pub type Snapshot = PgTransaction;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Writers with an earlier time are still running, or the replica is behind. A
    /// later attempt can succeed.
    #[error("the ledger is not final before {before} after {waited:.1?}: {reason}")]
    NotFinal {
        /// The end of the period.
        before: OffsetDateTime,
        /// The time waited.
        waited: Duration,
        /// What was waited for.
        reason: &'static str,
    },
    /// The database's error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The database did not answer in time: its host may have vanished.
    #[error("no answer from the ledger within {0:?}")]
    NoAnswer(Duration),
}

/// Time limit for a short read: a page of entries, or a slice of an activity.
pub const READ_LIMIT: Duration = Duration::from_secs(25);

/// Runs a read within the limit.
///
/// # Errors
/// The read's error, or [`LedgerError::NoAnswer`].
pub async fn limited<T, E: From<LedgerError>>(
    limit: Duration,
    read: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(limit, read).await.unwrap_or_else(|_| Err(LedgerError::NoAnswer(limit).into()))
}

/// The transaction database, as its readers see it.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: PgPool,
}

impl Ledger {
    /// The ledger at this URL, for reports: of the primary or of a replica. Connects on first use.
    ///
    /// # Errors
    /// [`InvalidUrl`]
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        Ok(Self { pool: pool(url, &REPORTS)? })
    }

    /// As [`Ledger::new`], with the shorter limits of requests, for reads by key.
    ///
    /// # Errors
    /// [`InvalidUrl`]
    pub fn for_requests(url: &str) -> Result<Self, InvalidUrl> {
        Ok(Self { pool: pool(url, &REQUESTS)? })
    }

    /// For reading without a common snapshot, in a period that is final.
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Checks that the views can be read.
    ///
    /// # Errors
    /// The database's error.
    pub async fn probe(&self) -> sqlx::Result<()> {
        sqlx::query_scalar!("SELECT account_seq FROM reporting.accounts LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map(drop)
    }

    /// The highest id of a transaction, 0 without any.
    ///
    /// # Errors
    /// The database's error.
    pub async fn last_transaction_id(&self) -> sqlx::Result<i64> {
        let last = sqlx::query_scalar!(
            r#"SELECT coalesce(max(id), 0) AS "last!" FROM reporting.transactions"#
        );
        last.fetch_one(&self.pool).await
    }

    /// A snapshot of the present, which may still lack transactions of the past.
    ///
    /// # Errors
    /// The database's error.
    pub async fn current(&self) -> sqlx::Result<Snapshot> {
        self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    /// A snapshot with every transaction before `before`: a later snapshot has no other
    /// one. Waits for the database's clock and for writers, at most `patience`.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub async fn snapshot(
        &self,
        before: OffsetDateTime,
        patience: Duration,
    ) -> Result<Snapshot, LedgerError> {
        let (begun, mut pause) = (Instant::now(), FIRST_POLL);
        let mut earlier: Option<HashSet<String>> = None;
        loop {
            let reason = match self.clock(before).await? {
                Clock::Primary { reached: false } => "the database's clock is behind",
                Clock::Replica { reached: false } => {
                    "the replica has not replayed a commit of a minute after that time"
                }
                Clock::Replica { reached: true } => return Ok(self.current().await?),
                Clock::Primary { reached: true } => {
                    let writers = self.writers().await?;
                    // Those that began later have later times.
                    let earlier = earlier.get_or_insert_with(|| writers.clone());
                    earlier.retain(|writer| writers.contains(writer));
                    if earlier.is_empty() {
                        return Ok(self.current().await?);
                    }
                    "transactions that write to the ledger are still running"
                }
            };
            let waited = begun.elapsed();
            if waited >= patience {
                return Err(LedgerError::NotFinal { before, waited, reason });
            }
            sleep(pause).await;
            pause = POLL.min(pause * 2);
        }
    }

    async fn clock(&self, before: OffsetDateTime) -> sqlx::Result<Clock> {
        let margin = i32::try_from(REPLICA_MARGIN.as_secs()).unwrap_or(i32::MAX);
        let row = sqlx::query!(
            r#"SELECT pg_is_in_recovery() AS "replica!", clock_timestamp() >= $1 AS "reached!",
                      coalesce(pg_last_xact_replay_timestamp() >= $1 + make_interval(secs => $2),
                               false) AS "replayed!""#,
            before,
            f64::from(margin)
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(if row.replica {
            Clock::Replica { reached: row.replayed }
        } else {
            Clock::Primary { reached: row.reached }
        })
    }

    /// The database's clock.
    ///
    /// # Errors
    /// The database's error.
    pub async fn now(&self) -> sqlx::Result<OffsetDateTime> {
        sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(&self.pool).await
    }

    /// The transactions that may have read the clock for rows not committed yet.
    async fn writers(&self) -> sqlx::Result<HashSet<String>> {
        let writers = sqlx::query_scalar!(
            r#"SELECT virtual_transaction AS "writer!" FROM reporting.writers"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(writers.into_iter().collect())
    }
}

/// Whether the clock has reached the end of a period.
enum Clock {
    Primary { reached: bool },
    Replica { reached: bool },
}
