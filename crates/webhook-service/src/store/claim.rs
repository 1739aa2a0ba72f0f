//! Leases of endpoints. A replica delivers to an endpoint while it holds the lease.

use account_service::events::Source;
use contract::UserId;
use sqlx::{PgExecutor, types::Uuid};

use super::StoreError;

/// Which endpoints are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Their last attempts were delivered soon.
    Healthy,
    /// Their last attempt failed or took long, or a request has ended their lease.
    Failing,
}

/// An endpoint with a lease.
#[derive(Debug, Clone)]
pub struct ClaimedEndpoint {
    pub id: Uuid,
    pub fence: i64,
    /// The accounts whose events are delivered.
    pub source: Source,
    pub url: String,
    /// The types that are delivered. `None`: all.
    pub types: Option<Vec<i16>>,
    pub position: i64,
    pub announced: i64,
    /// Failed attempts in a row.
    pub failures: i32,
    /// Whether new events may be tried now.
    pub may_read: bool,
    /// Whether deliveries wait for a retry.
    pub has_waiting: bool,
    /// Whether deliveries wait for a retry, or were given up.
    pub has_rows: bool,
}

/// Claims due endpoints for a minute, those first that were served longest ago. `fence` is random,
/// as those of `webhook_fence()`, and of this claim only.
///
/// # Errors
/// [`StoreError`]. Endpoints may be claimed nevertheless, until their leases end: [`end_leases`].
pub async fn claim(
    database: impl PgExecutor<'_>,
    lane: Lane,
    limit: i64,
    fence: i64,
) -> Result<Vec<ClaimedEndpoint>, StoreError> {
    let rows = sqlx::query!(
        r#"UPDATE webhook_endpoints
           SET fence = $3, lease_until = clock_timestamp() + interval '60 seconds'
           WHERE id IN (SELECT id FROM webhook_endpoints
                        WHERE (failures > 0 OR is_slow) = $1 AND due_at <= clock_timestamp()
                        ORDER BY due_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
           RETURNING id, fence, owner_id, url, types, position, announced, failures,
               announced > position AND not_before <= clock_timestamp() AS "may_read!",
               retry_at < 'infinity' AS "has_waiting!",
               EXISTS (SELECT FROM webhook_deliveries WHERE endpoint_id = webhook_endpoints.id)
                   AS "has_rows!""#,
        lane == Lane::Failing,
        limit,
        fence,
    )
    .fetch_all(database)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let source = match row.owner_id {
            None => Source::All,
            Some(owner) => {
                let invalid = |_| StoreError::InvalidRow(format!("webhook endpoint {}", row.id));
                Source::Owner(UserId::try_from(owner).map_err(invalid)?)
            }
        };
        Ok(ClaimedEndpoint {
            id: row.id,
            fence: row.fence,
            source,
            url: row.url,
            types: row.types,
            position: row.position,
            announced: row.announced,
            failures: row.failures,
            may_read: row.may_read,
            has_waiting: row.has_waiting,
            has_rows: row.has_rows,
        })
    });
    rows.collect()
}

/// Ends the leases of a claim whose answer was lost. It reads all endpoints. A row held by another
/// transaction is left out: its lease runs out by itself. Gives the number of ended leases.
///
/// # Errors
/// [`StoreError`]. The leases may be ended nevertheless.
pub async fn end_leases(database: impl PgExecutor<'_>, fence: i64) -> Result<u64, StoreError> {
    let ended = sqlx::query!(
        "UPDATE webhook_endpoints SET lease_until = '-infinity'
         WHERE id IN (SELECT id FROM webhook_endpoints
                      WHERE fence = $1 AND lease_until > clock_timestamp()
                      FOR NO KEY UPDATE SKIP LOCKED)",
        fence,
    );
    Ok(ended.execute(database).await?.rows_affected())
}

/// Lets a lease end after `rest` seconds, if it would not end before, and is still this one.
///
/// # Errors
/// [`StoreError`]. The lease may be shortened nevertheless.
pub async fn shorten_lease(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
    fence: i64,
    rest: f64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE webhook_endpoints
         SET lease_until = least(lease_until, clock_timestamp() + make_interval(secs => $3))
         WHERE id = $1 AND fence = $2",
        endpoint,
        fence,
        rest,
    )
    .execute(database)
    .await?;
    Ok(())
}
