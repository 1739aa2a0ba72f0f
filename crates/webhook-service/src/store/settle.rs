//! What a round of deliveries has done. Each statement is of the holder of the lease.

use std::time::Duration;

use account_service::store::AuditAction;
use contract::AuditEntryId;
use runtime::postgres::{PgPool, PgTransaction};
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::StoreError;
use crate::NAME;

/// A failed delivery whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueDelivery {
    /// Of the event.
    pub position: i64,
    /// Failed attempts so far.
    pub attempts: i32,
    /// Whether the endpoint has taken another event since the last of them.
    pub others_taken: bool,
}

/// Deliveries that wait for a retry no longer. A delivery in the future, by a clock that was ahead,
/// is no evidence that the endpoint has taken another event.
///
/// # Errors
/// [`StoreError`]
pub async fn find_due(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
    limit: i64,
) -> Result<Vec<DueDelivery>, StoreError> {
    let due = sqlx::query_as!(
        DueDelivery,
        r#"SELECT position, attempts, coalesce(last_attempt_at < (
                      SELECT last_delivered_at FROM webhook_endpoints
                      WHERE id = $1 AND last_delivered_at <= clock_timestamp()), false)
                      AS "others_taken!"
           FROM webhook_deliveries
           WHERE endpoint_id = $1 AND next_attempt_at <= clock_timestamp()
           ORDER BY next_attempt_at LIMIT $2"#,
        endpoint,
        limit,
    );
    Ok(due.fetch_all(database).await?)
}

/// The number of deliveries that wait for a retry, up to `most`.
///
/// # Errors
/// [`StoreError`]
pub async fn count_waiting(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
    most: i64,
) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
               SELECT FROM webhook_deliveries
               WHERE endpoint_id = $1 AND next_attempt_at IS NOT NULL LIMIT $2) AS waiting"#,
        endpoint,
        most,
    );
    Ok(count.fetch_one(database).await?)
}

/// What events have in common that a receiver refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventClass {
    pub account: Uuid,
    /// As in the table of events.
    pub kind: i16,
}

/// The classes of the events that were refused and wait for a retry.
///
/// # Errors
/// [`StoreError`]
pub async fn find_refused(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
) -> Result<Vec<EventClass>, StoreError> {
    let refused = sqlx::query_as!(
        EventClass,
        r#"SELECT DISTINCT account_id AS "account!", type AS "kind!"
           FROM webhook_deliveries JOIN events USING (position)
           WHERE endpoint_id = $1 AND next_attempt_at IS NOT NULL AND attempts > 0"#,
        endpoint,
    );
    Ok(refused.fetch_all(database).await?)
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    pub position: i64,
    /// Failed attempts with this one.
    pub attempts: i32,
    /// Seconds until the next attempt. `None`: given up.
    pub next_in: Option<f64>,
    pub error: String,
}

/// What a round has done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Round {
    /// The new position of the cursor.
    pub position: i64,
    /// Failed attempts in a row, after this round.
    pub failures: i32,
    /// Whether the endpoint was failing, and has taken a delivery.
    pub has_recovered: bool,
    /// Whether a delivery was taken.
    pub has_delivered: bool,
    pub last_error: Option<String>,
    /// Whether the receiver answered 410.
    pub is_gone: bool,
    /// Whether an attempt took long.
    pub is_slow: bool,
    /// Deliveries whose rows end: they were taken, or their events do not exist.
    pub finished: Vec<i64>,
    pub failed: Vec<Failed>,
    /// New events up to the cursor whose attempt was cut off, or that a probe passed over. They are
    /// due at once.
    pub deferred: Vec<i64>,
    /// Seconds until new events are tried. `None`: the lease goes on.
    pub pause: Option<f64>,
}

/// The endpoint after a round.
#[derive(Debug)]
pub struct Settled {
    pub enabled: bool,
    /// Why this round disabled it: `gone` or `failing`.
    pub disabled_because: Option<String>,
    /// The first of the failures in a row before this round.
    pub failing_since: Option<OffsetDateTime>,
}

/// Settles a round. `None` if the lease is lost: then nothing is stored, and the events are
/// delivered again. The entry in the audit log about an endpoint that is disabled is stored with it,
/// under the id `entry`.
///
/// If the answer is lost, the round can be settled again under the same fence and the same `entry`:
/// the endpoint, its deliveries and the audit log are as after the first time, but for times that
/// are counted from now, and so is the answer.
///
/// # Errors
/// [`StoreError`]. The round may be settled nevertheless.
pub async fn settle(
    pool: &PgPool,
    endpoint: Uuid,
    fence: i64,
    round: &Round,
    disable_after: Duration,
    entry: AuditEntryId,
) -> Result<Option<Settled>, StoreError> {
    let has_deliveries =
        !round.finished.is_empty() || !round.failed.is_empty() || !round.deferred.is_empty();
    if !has_deliveries && !round.has_recovered {
        return update_endpoint(pool, endpoint, fence, round, disable_after, entry).await;
    }
    let mut transaction = pool.begin().await?;
    let settled =
        update_endpoint(&mut *transaction, endpoint, fence, round, disable_after, entry).await?;
    let Some(settled) = settled else {
        transaction.rollback().await?;
        return Ok(None);
    };
    // The row of the endpoint is locked: no one else changes its deliveries.
    update_deliveries(&mut transaction, endpoint, round, settled.failing_since).await?;
    transaction.commit().await?;
    Ok(Some(settled))
}

/// `None` if the lease is lost.
async fn update_endpoint(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
    fence: i64,
    round: &Round,
    disable_after: Duration,
    entry: AuditEntryId,
) -> Result<Option<Settled>, StoreError> {
    let settled = sqlx::query_as!(
        Settled,
        r#"WITH held AS (
             SELECT id, failing_since AS failed_since, $4 > 0 AND failing_since
                        < clock_timestamp() - make_interval(secs => $5::float8) AS is_failing_for_long
             FROM webhook_endpoints WHERE id = $1 AND fence = $2 FOR NO KEY UPDATE
         ), settled AS (
             UPDATE webhook_endpoints AS e
             SET position = greatest(position, $3),
                 failures = $4,
                 failing_since =
                     CASE WHEN $4 > 0 THEN coalesce(failing_since, clock_timestamp()) END,
                 last_error = coalesce($6, last_error),
                 last_failed_at = CASE WHEN $6::text IS NULL
                     THEN last_failed_at ELSE clock_timestamp() END,
                 last_delivered_at = CASE WHEN $7 THEN clock_timestamp() ELSE last_delivered_at END,
                 enabled = NOT ($8 OR coalesce(is_failing_for_long, false)),
                 disabled_because = CASE WHEN $8 THEN 'gone'
                                         WHEN is_failing_for_long THEN 'failing' END,
                 not_before = clock_timestamp() + make_interval(secs => coalesce($9::float8, 0)),
                 pause = coalesce($9, 0),
                 -- The receiver is left alone, by retries too.
                 retry_at = CASE WHEN $4 > 0 AND $9 IS NOT NULL
                     THEN greatest(retry_at, clock_timestamp() + make_interval(secs => $9))
                     ELSE retry_at END,
                 is_slow = $13,
                 lease_until = CASE WHEN $9::float8 IS NULL
                     THEN clock_timestamp() + interval '60 seconds' ELSE '-infinity' END
             FROM held WHERE e.id = held.id
             RETURNING e.id, enabled, disabled_because, failed_since
         ), audited AS (
             INSERT INTO audit_log (id, actor, action, resource, details)
             SELECT $10, $11, $12, '/v1/webhook-endpoints/' || id,
                 jsonb_build_object('because', disabled_because)
             FROM settled WHERE NOT enabled
             -- The round is settled again.
             ON CONFLICT DO NOTHING
         )
         SELECT enabled AS "enabled!", disabled_because, failed_since AS "failing_since?"
         FROM settled"#,
        endpoint,
        fence,
        round.position,
        round.failures,
        disable_after.as_secs_f64(),
        round.last_error,
        round.has_delivered,
        round.is_gone,
        round.pause,
        entry.as_uuid(),
        NAME,
        AuditAction::WebhookEndpointDisabled.as_str(),
        round.is_slow,
    );
    Ok(settled.fetch_optional(database).await?)
}

async fn update_deliveries(
    transaction: &mut PgTransaction,
    endpoint: Uuid,
    round: &Round,
    failing_since: Option<OffsetDateTime>,
) -> Result<(), StoreError> {
    if !round.finished.is_empty() {
        sqlx::query!(
            "DELETE FROM webhook_deliveries WHERE endpoint_id = $1 AND position = ANY($2)",
            endpoint,
            &round.finished,
        )
        .execute(&mut **transaction)
        .await?;
    }
    for failed in &round.failed {
        sqlx::query!(
            "INSERT INTO webhook_deliveries
                 (endpoint_id, position, attempts, next_attempt_at, delay, last_error,
                  last_attempt_at)
             VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4), $4, $5,
                 clock_timestamp())
             ON CONFLICT (endpoint_id, position) DO UPDATE
             SET attempts = excluded.attempts, next_attempt_at = excluded.next_attempt_at,
                 delay = excluded.delay, last_error = excluded.last_error,
                 last_attempt_at = excluded.last_attempt_at",
            endpoint,
            failed.position,
            failed.attempts,
            failed.next_in,
            failed.error,
        )
        .execute(&mut **transaction)
        .await?;
    }
    if !round.deferred.is_empty() {
        add_due(&mut **transaction, endpoint, &round.deferred).await?;
    }
    if round.has_recovered {
        // What has failed since then may be taken now. What was refused before, while others were
        // taken, keeps its schedule. Spread over a minute, so that the receiver is not overloaded
        // again.
        sqlx::query!(
            "UPDATE webhook_deliveries
             SET next_attempt_at = least(next_attempt_at,
                     clock_timestamp() + make_interval(secs => 60 * random())),
                 delay = least(delay, 60)
             WHERE endpoint_id = $1 AND next_attempt_at IS NOT NULL AND last_attempt_at >= $2",
            endpoint,
            failing_since,
        )
        .execute(&mut **transaction)
        .await?;
    }
    set_retry_at(transaction, &[endpoint]).await
}

/// Makes the deliveries of events due, with all their attempts. The row of the endpoint is locked.
pub(super) async fn add_due(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
    positions: &[i64],
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO webhook_deliveries
             (endpoint_id, position, attempts, next_attempt_at, delay, last_error, last_attempt_at)
         SELECT $1, due.position, 0, clock_timestamp(), 0, '', clock_timestamp()
         FROM unnest($2::bigint[]) AS due (position)
         ON CONFLICT (endpoint_id, position) DO UPDATE
         SET attempts = 0, next_attempt_at = excluded.next_attempt_at, delay = 0",
        endpoint,
        positions,
    )
    .execute(database)
    .await?;
    Ok(())
}

/// Makes due what waits, and what was given up since `failing_since`, with all attempts. The row of
/// the endpoint is locked.
pub(super) async fn renew_deliveries(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
    failing_since: Option<OffsetDateTime>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE webhook_deliveries
         SET attempts = 0, next_attempt_at = least(next_attempt_at, clock_timestamp()), delay = 0
         WHERE endpoint_id = $1 AND (next_attempt_at IS NOT NULL OR last_attempt_at >= $2)",
        endpoint,
        failing_since,
    )
    .execute(database)
    .await?;
    Ok(())
}

/// Sets when the next delivery is tried again. During the pause of a failing endpoint, none is.
/// Others take turns by their last service. The rows of the endpoints are locked.
pub(super) async fn set_retry_at(
    transaction: &mut PgTransaction,
    endpoints: &[Uuid],
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE webhook_endpoints AS e
         SET retry_at = greatest(
             CASE WHEN failures > 0 THEN not_before ELSE least(not_before, clock_timestamp()) END,
             (SELECT coalesce(min(next_attempt_at), 'infinity') FROM webhook_deliveries
              WHERE endpoint_id = e.id))
         WHERE id = ANY($1)",
        endpoints,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Deletes some deliveries that were given up more than 30 days ago. Returns their number. A row
/// that another transaction holds is left alone: a redelivery may have been requested.
///
/// # Errors
/// [`StoreError`]
pub async fn delete_old(database: impl PgExecutor<'_>) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        "DELETE FROM webhook_deliveries
         WHERE (endpoint_id, position) IN (
             SELECT endpoint_id, position FROM webhook_deliveries
             WHERE next_attempt_at IS NULL
                 AND last_attempt_at < clock_timestamp() - interval '30 days'
             LIMIT 1000 FOR UPDATE SKIP LOCKED)",
    );
    Ok(deleted.execute(database).await?.rows_affected())
}
