//! Figures from the databases.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use contract::RecordId;
use devstack::StackFile;
use sqlx::{Connection as _, PgConnection};

use crate::{backlog::Backlog, runs::number, wait::until};

/// The rates at which a backlog was decided and settled. Both databases are on
/// the same server, and its clock gives the times: each row has the start time
/// of its batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrainRates {
    /// Transactions per second, from the first to the last batch.
    pub(crate) decided: f64,
    /// Records per second, from the first transaction's batch until the last
    /// record was settled. 0 if records are still PENDING.
    pub(crate) settled: f64,
}

pub(crate) async fn drain_rates(file: &StackFile, backlog: &Backlog) -> Result<DrainRates> {
    let Backlog { first, last, count } = *backlog;
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
    ensure!(
        u64::try_from(decided)? == count,
        "the ledger has decided {decided} of {count} records"
    );
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
    Ok(DrainRates { decided: rate(to - from), settled })
}

/// Waits until no record is PENDING.
pub(crate) async fn nothing_pending(file: &StackFile) -> Result<()> {
    let mut database = PgConnection::connect(&file.databases.account).await?;
    let pending = "SELECT EXISTS (SELECT FROM transaction_records WHERE status = 'PENDING')";
    until("all records to settle", async || {
        Ok(!sqlx::query_scalar::<_, bool>(pending).fetch_one(&mut database).await?)
    })
    .await
}

/// Records created since then, per second from the first batch's acceptance
/// until the last was settled. All of them must be settled.
pub(crate) async fn settled_rate(file: &StackFile, since: SystemTime) -> Result<f64> {
    let mut accounts = PgConnection::connect(&file.databases.account).await?;
    let (settled, seconds): (i64, Option<f64>) = sqlx::query_as(
        "SELECT count(*), extract(epoch FROM max(updated_at) - min(created_at))::float8
         FROM transaction_records WHERE id >= $1 AND status <> 'PENDING'",
    )
    .bind(RecordId::lowest_at(since).as_uuid())
    .fetch_one(&mut accounts)
    .await?;
    Ok(number(u64::try_from(settled)?) / seconds.unwrap_or_default().max(1e-6))
}

/// Counters of the PostgreSQL server since its initialization.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServerCounters {
    /// Bytes of the write-ahead log.
    pub(crate) wal_bytes: f64,
    /// Committed transactions in the services' databases.
    pub(crate) commits: f64,
}

/// Backends report their counters at most once per second.
const COUNTER_DELAY: Duration = Duration::from_millis(1_500);

pub(crate) async fn server_counters(file: &StackFile) -> Result<ServerCounters> {
    tokio::time::sleep(COUNTER_DELAY).await;
    let mut database = PgConnection::connect(&file.databases.report).await?;
    let (wal_bytes, commits): (f64, i64) = sqlx::query_as(
        "SELECT (pg_current_wal_lsn() - '0/0')::float8,
                (SELECT sum(xact_commit)::bigint FROM pg_stat_database
                 WHERE datname IN ('account', 'transaction'))",
    )
    .fetch_one(&mut database)
    .await?;
    Ok(ServerCounters { wal_bytes, commits: number(u64::try_from(commits)?) })
}
