//! Claims the next report: the oldest that is due, and only if no other one runs.

use std::time::Duration;

use runtime::failpoint;
use runtime::postgres::PgPool;
use sqlx::{PgConnection, types::Uuid};

use super::{StoreError, reports::ReportRow};
use crate::report::{Claimed, Report};

/// Key of the lock around claims. Without it, two workers could both see that no
/// report runs.
const CLAIM_LOCK: i64 = 0x7265_706f_7274_0001;

/// The outcome of a claim.
#[derive(Debug)]
pub enum Claim {
    /// This process makes the next attempt. The lease has begun.
    Claimed(Box<Claimed>),
    /// Other reports run; the limit is reached.
    Busy,
    /// No report is due.
    NothingDue,
}

/// Claims the oldest due report. At most `max_running` reports have a lease at the
/// same time.
///
/// # Errors
/// [`StoreError`]. The claim may still be stored. Its lease then ends unused.
pub async fn claim(
    pool: &PgPool,
    worker: &str,
    lease: Duration,
    max_running: i64,
) -> Result<Claim, StoreError> {
    match attempt(pool, worker, lease, max_running, false).await {
        // Another transaction holds the row of the oldest due report. The next one goes on.
        Err(error) if error.is_locked() => {
            match attempt(pool, worker, lease, max_running, true).await? {
                Claim::NothingDue => Err(error),
                claim => Ok(claim),
            }
        }
        claim => claim,
    }
}

/// Rows are not skipped at first: a row that the redrive locks for a moment keeps its place.
async fn attempt(
    pool: &PgPool,
    worker: &str,
    lease: Duration,
    max_running: i64,
    skip_locked: bool,
) -> Result<Claim, StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", CLAIM_LOCK).execute(&mut *transaction).await?;
    let running = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM reports
           WHERE lane = 'default' AND state IN ('QUEUED', 'RUNNING') AND state = 'RUNNING'
               AND lease_until > clock_timestamp()"#
    );
    if running.fetch_one(&mut *transaction).await? >= max_running {
        return Ok(Claim::Busy);
    }
    let Some(claimed) = start_attempt(&mut transaction, worker, lease, skip_locked).await? else {
        return Ok(Claim::NothingDue);
    };
    failpoint::point("report.claiming", &claimed.report.id);
    transaction.commit().await?;
    failpoint::point("report.claimed", &claimed.report.id);
    Ok(Claim::Claimed(Box::new(claimed)))
}

async fn start_attempt(
    connection: &mut PgConnection,
    worker: &str,
    lease: Duration,
    skip_locked: bool,
) -> Result<Option<Claimed>, StoreError> {
    let oldest = if skip_locked { oldest_unlocked(&mut *connection).await? } else { None };
    if skip_locked && oldest.is_none() {
        return Ok(None);
    }
    let row = sqlx::query!(
        r#"UPDATE reports
         SET state = 'RUNNING', attempt = attempt + 1, worker = $1,
             fence = (random() * 9007199254740992)::bigint,
             lease_until = clock_timestamp() + make_interval(secs => $2),
             step = NULL, done = NULL, total = NULL, updated_at = clock_timestamp()
         WHERE id = coalesce($3,
                    (SELECT id FROM reports
                     WHERE lane = 'default' AND state IN ('QUEUED', 'RUNNING')
                         AND state = 'QUEUED' AND not_before <= clock_timestamp()
                     ORDER BY position LIMIT 1))
             AND state = 'QUEUED'
         RETURNING id, parameters, formats, requested_by, account_owner, state, attempt,
                cancel_requested, step, done, total, error, public_error, retry_of, created_at,
                updated_at, checkpoint, traceparent, fence AS "fence!""#,
        worker,
        lease.as_secs_f64(),
        oldest,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    sqlx::query!(
        "INSERT INTO report_attempts (report_id, number, worker, started_at)
         VALUES ($1, $2, $3, $4)",
        row.id,
        row.attempt,
        worker,
        row.updated_at,
    )
    .execute(connection)
    .await?;
    let report = ReportRow {
        id: row.id,
        parameters: row.parameters,
        formats: row.formats,
        requested_by: row.requested_by,
        account_owner: row.account_owner,
        state: row.state,
        attempt: row.attempt,
        cancel_requested: row.cancel_requested,
        step: row.step,
        done: row.done,
        total: row.total,
        error: row.error,
        public_error: row.public_error,
        retry_of: row.retry_of,
        created_at: row.created_at,
        updated_at: row.updated_at,
    };
    let (fence, checkpoint, traceparent) = (row.fence, row.checkpoint, row.traceparent);
    Ok(Some(Claimed { report: Report::try_from(report)?, fence, checkpoint, traceparent }))
}

/// The oldest due report whose row no other transaction holds. Locks it.
async fn oldest_unlocked(connection: &mut PgConnection) -> sqlx::Result<Option<Uuid>> {
    let oldest = sqlx::query_scalar!(
        "SELECT id FROM reports
         WHERE lane = 'default' AND state IN ('QUEUED', 'RUNNING')
             AND state = 'QUEUED' AND not_before <= clock_timestamp()
         ORDER BY position LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
    );
    oldest.fetch_optional(connection).await
}
