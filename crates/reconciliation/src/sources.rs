//! The two databases, and their snapshots.

use std::time::{Duration, Instant};

use runtime::postgres;
use sqlx::{PgConnection, postgres::PgConnectOptions};

use crate::{Error, rows};

/// How long a replica may take to replay what its primary has written.
const REPLAY_LIMIT: Duration = Duration::from_secs(60);
const REPLAY_POLL: Duration = Duration::from_millis(100);

/// The schema of the rows, which depends on the role of the connection. Names and
/// types of the columns are the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// The services' own tables, for the auditor.
    Tables,
    /// The views of the schema `reporting`, for the report reader.
    Reporting,
}

/// Where the records and the transactions are.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The account-service's database.
    pub accounts: PgConnectOptions,
    /// The transaction-service's database.
    pub ledger: PgConnectOptions,
    pub schema: Schema,
    /// Replicas to read in place of the databases above.
    pub replicas: Replicas,
}

/// Replicas of the databases. The snapshot of a replica is taken once it has replayed everything
/// that its primary has committed, so that it means the same as one of the primary.
#[derive(Debug, Clone, Default)]
pub struct Replicas {
    pub accounts: Option<PgConnectOptions>,
    pub ledger: Option<PgConnectOptions>,
}

/// Why no snapshot was taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the server at the URL of the replica is no standby")]
    NotAReplica,
    #[error("the replica has not replayed its primary's commits within {REPLAY_LIMIT:?}")]
    ReplicaBehind,
}

/// Connections for one comparison.
pub(crate) struct Connections {
    /// A snapshot, taken before that of the ledger.
    pub(crate) accounts: PgConnection,
    pub(crate) ledger: PgConnection,
    /// Outside the snapshot of the accounts, to look up rows missing from it.
    pub(crate) latest: PgConnection,
}

impl Sources {
    pub(crate) async fn connect(&self) -> Result<Connections, Error> {
        let Replicas { accounts, ledger } = &self.replicas;
        let accounts = self.snapshot(&self.accounts, accounts.as_ref()).await;
        Ok(Connections {
            accounts: accounts.map_err(Error::AccountSnapshot)?,
            ledger: self
                .snapshot(&self.ledger, ledger.as_ref())
                .await
                .map_err(Error::LedgerSnapshot)?,
            latest: self.open(&self.accounts).await.map_err(Error::Accounts)?,
        })
    }

    /// A connection with a snapshot of the database, with everything committed until now.
    async fn snapshot(
        &self,
        primary: &PgConnectOptions,
        replica: Option<&PgConnectOptions>,
    ) -> Result<PgConnection, SnapshotError> {
        let mut connection = self.open(replica.unwrap_or(primary)).await?;
        if replica.is_some() {
            wait_for_replay(&mut self.open(primary).await?, &mut connection).await?;
        }
        let begin = sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1");
        rows::answered(begin.execute(&mut connection)).await?;
        Ok(connection)
    }

    async fn open(&self, options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
        let mut connection = postgres::connect(options).await?;
        if self.schema == Schema::Reporting {
            sqlx::raw_sql("SET search_path = reporting").execute(&mut connection).await?;
        }
        Ok(connection)
    }
}

/// Waits until the replica has replayed all commits of its primary until now.
async fn wait_for_replay(
    primary: &mut PgConnection,
    replica: &mut PgConnection,
) -> Result<(), SnapshotError> {
    // A commit is flushed before it is visible.
    let flushed = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn()::text");
    let flushed: String = rows::answered(flushed.fetch_one(primary)).await?;
    let begun = Instant::now();
    while begun.elapsed() < REPLAY_LIMIT {
        let replayed = sqlx::query_scalar(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= $1::text::pg_lsn END",
        )
        .bind(&flushed)
        .fetch_one(&mut *replica);
        let replayed: Option<bool> = rows::answered(replayed).await?;
        if replayed.ok_or(SnapshotError::NotAReplica)? {
            return Ok(());
        }
        tokio::time::sleep(REPLAY_POLL).await;
    }
    Err(SnapshotError::ReplicaBehind)
}
