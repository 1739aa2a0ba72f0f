//! What the databases say of what was measured.

use std::time::Duration;

use anyhow::{Result, ensure};
use devstack::StackFile;
use sqlx::{Connection as _, PgConnection};

use crate::{fill::Waiting, runs::number};

/// How fast records that waited were decided and settled, by the clock of the
/// server on which both databases lie: each row has the time at which its batch
/// was begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Transactions a second, from the first one's batch to the last one's.
    pub(crate) decided: f64,
    /// Records a second, from the first transaction's batch until the last
    /// one's record was settled. 0 while some are PENDING.
    pub(crate) settled: f64,
}

pub(crate) async fn rates(file: &StackFile, waiting: &Waiting) -> Result<Rates> {
    let Waiting { first, last, count } = *waiting;
    let mut ledger = PgConnection::connect(&file.databases.transaction).await?;
    let (decided, from, to): (i64, f64, f64) = sqlx::query_as(
        "SELECT count(*), extract(epoch FROM min(created_at))::float8,
                extract(epoch FROM max(created_at))::float8
         FROM transactions WHERE record_id BETWEEN $1 AND $2",
    )
    .bind(first)
    .bind(last)
    .fetch_one(&mut ledger)
    .await?;
    ensure!(u64::try_from(decided)? == count, "the ledger has {decided} of {count}");
    let mut accounts = PgConnection::connect(&file.databases.account).await?;
    let (pending, settled): (i64, f64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE status = 'PENDING'),
                extract(epoch FROM max(updated_at))::float8
         FROM transaction_records WHERE id BETWEEN $1 AND $2",
    )
    .bind(first)
    .bind(last)
    .fetch_one(&mut accounts)
    .await?;
    let rate = |seconds: f64| number(count) / seconds.max(1e-6);
    let settled = if pending == 0 { rate(settled - from) } else { 0.0 };
    Ok(Rates { decided: rate(to - from), settled })
}

/// Work that the server has done since it was initialized.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Bytes written to the write-ahead log.
    pub(crate) wal: f64,
    /// Transactions committed in the services' databases.
    pub(crate) commits: f64,
}

/// Backends tell their counters at most once a second.
const TOLD_WITHIN: Duration = Duration::from_millis(1_500);

pub(crate) async fn work(file: &StackFile) -> Result<Work> {
    tokio::time::sleep(TOLD_WITHIN).await;
    let mut database = PgConnection::connect(&file.databases.report).await?;
    let (wal, commits): (f64, i64) = sqlx::query_as(
        "SELECT (pg_current_wal_lsn() - '0/0')::float8,
                (SELECT sum(xact_commit)::bigint FROM pg_stat_database
                 WHERE datname IN ('account', 'transaction'))",
    )
    .fetch_one(&mut database)
    .await?;
    Ok(Work { wal, commits: number(u64::try_from(commits)?) })
}
