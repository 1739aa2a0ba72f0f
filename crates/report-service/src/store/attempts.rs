//! The lease of an attempt and its end. Every statement requires the number of the
//! attempt and the fence of its claim: an earlier attempt that wakes up changes nothing, also in
//! an older copy of the database, which gives its number again.

use std::time::Duration;

use contract::ReportId;
use runtime::failpoint;
use runtime::postgres::PgPool;
use sqlx::PgConnection;

use super::StoreError;
use crate::{
    alert::alert,
    job::{Next, Outcome, State, Tries, after},
    report::{AttemptKey, NewArtifact},
};

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The lease is extended.
    Extended,
    /// The lease is extended, and a client asked to cancel the report.
    CancelRequested,
    /// The lease is over, or belongs to another attempt.
    Lost,
}

/// The progress of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The step.
    pub step: String,
    /// Rows done in this step.
    pub done: i64,
    /// Rows of this step, if known.
    pub total: Option<i64>,
    /// From where the next attempt could continue.
    pub checkpoint: Option<serde_json::Value>,
}

/// Extends the lease of an attempt, and stores its progress.
///
/// # Errors
/// [`StoreError`]
pub async fn beat(
    pool: &PgPool,
    key: AttemptKey,
    lease: Duration,
    progress: &Progress,
) -> Result<Beat, StoreError> {
    let cancel_requested = sqlx::query_scalar!(
        "UPDATE reports
         SET lease_until = clock_timestamp() + make_interval(secs => $3),
             step = $4, done = $5, total = $6, checkpoint = coalesce($7, checkpoint),
             updated_at = clock_timestamp()
         WHERE id = $1 AND attempt = $2 AND fence = $8 AND state = 'RUNNING'
             AND lease_until > clock_timestamp()
         RETURNING cancel_requested",
        key.report.as_uuid(),
        key.number,
        lease.as_secs_f64(),
        progress.step,
        progress.done,
        progress.total,
        progress.checkpoint,
        key.fence,
    )
    .fetch_optional(pool)
    .await?;
    Ok(match cancel_requested {
        None => Beat::Lost,
        Some(true) => Beat::CancelRequested,
        Some(false) => Beat::Extended,
    })
}

/// The answer to the last commit of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// The report is SUCCEEDED with the files of this attempt, now or before.
    Committed,
    /// A client cancelled the report before. Nothing changed.
    Cancelled,
    /// The lease is over, or the report belongs to another attempt. Nothing changed.
    Fenced,
}

/// Makes a report SUCCEEDED with these files, in one commit.
///
/// # Errors
/// [`StoreError`]. The commit may still have happened; another call tells.
pub async fn succeed(
    pool: &PgPool,
    key: AttemptKey,
    files: &[NewArtifact],
    retention: Duration,
) -> Result<Success, StoreError> {
    let mut transaction = pool.begin().await?;
    let updated = sqlx::query!(
        "UPDATE reports
         SET state = 'SUCCEEDED', lease_until = NULL, worker = NULL, checkpoint = NULL, error = NULL,
             step = NULL, done = NULL, total = NULL,
             ended_at = clock_timestamp(), updated_at = clock_timestamp()
         WHERE id = $1 AND attempt = $2 AND fence = $3 AND state = 'RUNNING'
             AND NOT cancel_requested AND lease_until > clock_timestamp()",
        key.report.as_uuid(),
        key.number,
        key.fence,
    );
    if updated.execute(&mut *transaction).await?.rows_affected() == 0 {
        return present(&mut transaction, key).await;
    }
    for file in files {
        sqlx::query!(
            "INSERT INTO report_artifacts (report_id, format, attempt, path, size, sha256, signature,
                    file_name, media_type, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                     clock_timestamp() + make_interval(secs => $10))",
            key.report.as_uuid(),
            file.format.as_str(),
            key.number,
            file.path,
            i64::try_from(file.size).unwrap_or(i64::MAX),
            &file.sha256[..],
            file.signature,
            file.file_name,
            file.format.media_type(),
            retention.as_secs_f64(),
        )
        .execute(&mut *transaction)
        .await?;
    }
    close_attempt(&mut transaction, (key.report, key.number), "SUCCEEDED", None).await?;
    failpoint::point("report.succeeding", &key.report);
    transaction.commit().await?;
    failpoint::point("report.succeeded", &key.report);
    Ok(Success::Committed)
}

/// Why an attempt can't make its report SUCCEEDED. After its lease, another report may
/// have begun, so the attempt counts as fenced off although no other one has its report.
async fn present(connection: &mut PgConnection, key: AttemptKey) -> Result<Success, StoreError> {
    let row = sqlx::query!(
        r#"SELECT state, (state = 'RUNNING' AND cancel_requested
                          AND lease_until > clock_timestamp()) AS "cancelled!"
           FROM reports WHERE id = $1 AND attempt = $2 AND fence = $3"#,
        key.report.as_uuid(),
        key.number,
        key.fence,
    );
    Ok(match row.fetch_optional(connection).await? {
        Some(row) if row.state == State::Succeeded.as_str() => Success::Committed,
        Some(row) if row.cancelled => Success::Cancelled,
        _ => Success::Fenced,
    })
}

async fn close_attempt(
    connection: &mut PgConnection,
    (id, attempt): (ReportId, i32),
    outcome: &str,
    error: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE report_attempts SET ended_at = clock_timestamp(), outcome = $3, error = $4
         WHERE report_id = $1 AND number = $2 AND ended_at IS NULL",
        id.as_uuid(),
        attempt,
        outcome,
        error,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends an attempt without files. Returns the report's next state; `None` if the
/// attempt was fenced off.
///
/// # Errors
/// [`StoreError`]. The commit may still have happened.
pub async fn end(
    pool: &PgPool,
    key: AttemptKey,
    outcome: &Outcome,
    tries: Tries,
) -> Result<Option<Next>, StoreError> {
    let mut transaction = pool.begin().await?;
    let row = sqlx::query!(
        "SELECT failures, cancel_requested, kind FROM reports
         WHERE id = $1 AND attempt = $2 AND fence = $3 AND state = 'RUNNING' FOR NO KEY UPDATE",
        key.report.as_uuid(),
        key.number,
        key.fence,
    );
    let Some(row) = row.fetch_optional(&mut *transaction).await? else { return Ok(None) };
    let next = after(outcome, row.failures, row.cancel_requested, tries);
    let attempt = (key.report, key.number);
    write_end(&mut transaction, attempt, &row.kind, outcome, next).await?;
    failpoint::point("report.ending", &key.report);
    transaction.commit().await?;
    failpoint::point("report.ended", &key.report);
    Ok(Some(next))
}

/// Writes the end of an attempt to a locked row. An alert is part of the same commit,
/// so that no report fails for good in silence.
async fn write_end(
    connection: &mut PgConnection,
    (id, attempt): (ReportId, i32),
    kind: &str,
    outcome: &Outcome,
    next: Next,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE reports
         SET state = $2, failures = $3, error = coalesce($4, error), public_error = $7,
             lease_until = NULL,
             worker = NULL, sent_at = NULL, step = NULL, done = NULL, total = NULL,
             not_before = clock_timestamp() + make_interval(secs => $5),
             ended_at = CASE WHEN $6 THEN clock_timestamp() END, updated_at = clock_timestamp()
         WHERE id = $1",
        id.as_uuid(),
        next.state.as_str(),
        next.failures,
        outcome.error(),
        next.delay.as_secs_f64(),
        next.state.is_end(),
        outcome.public_error(),
    )
    .execute(&mut *connection)
    .await?;
    if next.alert {
        let payload = alert(id, kind, next.failures, outcome.error().unwrap_or_default());
        sqlx::query!(
            "INSERT INTO report_alerts (report_id, payload) VALUES ($1, $2)
             ON CONFLICT (report_id) DO NOTHING",
            id.as_uuid(),
            payload,
        )
        .execute(&mut *connection)
        .await?;
    }
    close_attempt(connection, (id, attempt), outcome.as_str(), outcome.error()).await
}

/// Ends the attempts whose leases are over, as lost. Returns the reports with their
/// kinds and next states. A report is left out while another transaction holds its row, or
/// that of its attempt.
///
/// # Errors
/// [`StoreError`]
pub async fn expire_lost(
    pool: &PgPool,
    tries: Tries,
) -> Result<Vec<(ReportId, String, Next)>, StoreError> {
    let mut transaction = pool.begin().await?;
    let rows = sqlx::query!(
        r#"WITH lost AS MATERIALIZED (
               SELECT id, kind, attempt, failures, cancel_requested, position FROM reports
               WHERE lane = 'default' AND state IN ('QUEUED', 'RUNNING') AND state = 'RUNNING'
                   AND lease_until < clock_timestamp()
               ORDER BY position LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED
           ), free AS MATERIALIZED (
               SELECT a.report_id FROM lost
               JOIN report_attempts AS a ON a.report_id = lost.id AND a.number = lost.attempt
               FOR NO KEY UPDATE OF a SKIP LOCKED
           )
           SELECT id AS "id!", kind AS "kind!", attempt AS "attempt!", failures AS "failures!",
               cancel_requested AS "cancel_requested!"
           FROM lost
           WHERE id IN (SELECT report_id FROM free)
               OR NOT EXISTS (SELECT FROM report_attempts
                              WHERE report_id = lost.id AND number = lost.attempt)
           ORDER BY position"#
    );
    let mut lost = Vec::new();
    for row in rows.fetch_all(&mut *transaction).await? {
        let id = ReportId::from_uuid(row.id);
        let next = after(&Outcome::Lost, row.failures, row.cancel_requested, tries);
        write_end(&mut transaction, (id, row.attempt), &row.kind, &Outcome::Lost, next).await?;
        lost.push((id, row.kind, next));
    }
    transaction.commit().await?;
    Ok(lost)
}
