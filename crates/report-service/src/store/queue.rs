//! The wake-up messages of QUEUED reports. One message wakes one worker for one
//! report, so the stream must hold as many messages as there are due reports.

use contract::ReportId;
use runtime::postgres::PgPool;

use super::StoreError;

/// The due reports.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Due {
    /// QUEUED and due.
    pub due: i64,
    /// QUEUED, due or not.
    pub queued: i64,
    /// RUNNING.
    pub running: i64,
    /// Age of the oldest QUEUED report in seconds, 0 without any.
    pub oldest_queued_seconds: f64,
}

/// Counts the open reports.
///
/// # Errors
/// [`StoreError`]
pub async fn due(pool: &PgPool) -> Result<Due, StoreError> {
    let due = sqlx::query_as!(
        Due,
        r#"SELECT count(*) FILTER (WHERE state = 'QUEUED' AND not_before <= clock_timestamp())
                      AS "due!",
                  count(*) FILTER (WHERE state = 'QUEUED') AS "queued!",
                  count(*) FILTER (WHERE state = 'RUNNING') AS "running!",
                  coalesce(extract(epoch FROM clock_timestamp()
                      - min(created_at) FILTER (WHERE state = 'QUEUED')), 0)::float8
                      AS "oldest_queued_seconds!"
           FROM reports WHERE lane = 'default' AND state IN ('QUEUED', 'RUNNING')"#
    );
    Ok(due.fetch_one(pool).await?)
}

/// A message was sent so recently that it may not be in the stream yet.
const IN_FLIGHT_SECONDS: f64 = 5.0;

/// Claims due reports to send messages for, oldest first. Returns each with the
/// number of the message.
///
/// # Errors
/// [`StoreError`]
pub async fn claim_unsent(pool: &PgPool, limit: i64) -> Result<Vec<(ReportId, i32)>, StoreError> {
    let claimed = sqlx::query!(
        "UPDATE reports SET sent_at = clock_timestamp(), sends = sends + 1
         WHERE id IN (SELECT id FROM reports
                      WHERE lane = 'default' AND state IN ('QUEUED', 'RUNNING')
                          AND state = 'QUEUED' AND not_before <= clock_timestamp()
                          AND (sent_at IS NULL
                               OR sent_at < clock_timestamp() - make_interval(secs => $2))
                      ORDER BY position LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
         RETURNING id, position, sends",
        limit,
        IN_FLIGHT_SECONDS,
    );
    let mut claimed = claimed.fetch_all(pool).await?;
    claimed.sort_by_key(|row| row.position);
    Ok(claimed.into_iter().map(|row| (ReportId::from_uuid(row.id), row.sends)).collect())
}

/// The messages of these reports got no PubAck: they are due again at once. If another
/// transaction holds a report's row, it is due again in some seconds.
///
/// # Errors
/// [`StoreError`]
pub async fn set_unsent(pool: &PgPool, ids: &[ReportId]) -> Result<(), StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query!(
        "UPDATE reports SET sent_at = NULL
         WHERE id = ANY (ARRAY(
             SELECT id FROM reports WHERE id = ANY($1) AND state = 'QUEUED'
             ORDER BY id FOR NO KEY UPDATE SKIP LOCKED))",
        &ids
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether there is a report with this id.
///
/// # Errors
/// [`StoreError`]
pub async fn exists(pool: &PgPool, id: ReportId) -> Result<bool, StoreError> {
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM reports WHERE id = $1) AS "exists!""#,
        id.as_uuid()
    );
    Ok(exists.fetch_one(pool).await?)
}
