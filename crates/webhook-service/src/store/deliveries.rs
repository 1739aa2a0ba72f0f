//! The failed deliveries of an endpoint, for the API.

use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::StoreError;

/// A delivery that waits for a retry, or was given up.
#[derive(Debug)]
pub struct DeliveryRow {
    /// Of the event.
    pub position: i64,
    /// Failed attempts. 0: it was requested again since.
    pub attempts: i32,
    /// `None`: given up.
    pub next_attempt_at: Option<OffsetDateTime>,
    /// Empty without an attempt.
    pub last_error: String,
    pub last_attempt_at: OffsetDateTime,
}

/// The deliveries of events above a position, in the order of the log.
///
/// # Errors
/// [`StoreError`]
pub async fn list_deliveries(
    database: impl PgExecutor<'_>,
    endpoint: Uuid,
    after: i64,
    limit: u16,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let rows = sqlx::query_as!(
        DeliveryRow,
        "SELECT position, attempts, next_attempt_at, last_error, last_attempt_at
         FROM webhook_deliveries WHERE endpoint_id = $1 AND position > $2
         ORDER BY position LIMIT $3",
        endpoint,
        after,
        i64::from(limit),
    );
    Ok(rows.fetch_all(database).await?)
}
