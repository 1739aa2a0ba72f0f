//! Redelivery by request.

use account_service::store::{Actor, AuditAction};
use runtime::postgres::PgPool;
use sqlx::types::Uuid;

use super::{
    StoreError,
    audit::{self, Details},
    settle::set_retry_at,
};

/// Which events are delivered again. The ids are those of the request.
#[derive(Debug, Clone, Copy)]
pub enum Replay<'a> {
    /// The event at a position, with all its attempts.
    Event { id: &'a str, position: i64 },
    /// The events after a position. Then the endpoint goes on.
    After { id: &'a str, position: i64 },
}

/// Delivers events again. Gives whether there is such an endpoint.
///
/// # Errors
/// [`StoreError`]. The endpoint may be changed nevertheless.
pub async fn replay(
    pool: &PgPool,
    endpoint: Uuid,
    replay: Replay<'_>,
    asked_by: Actor<'_>,
) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let details = match replay {
        Replay::After { id, position } => {
            // It has no later events than the log has.
            let changed = sqlx::query!(
                "WITH fanout AS (SELECT position FROM webhook_fanout WHERE only_row FOR SHARE)
                 UPDATE webhook_endpoints AS e
                 SET position = least(e.position, $2), announced = fanout.position,
                     not_before = least(not_before, clock_timestamp()),
                     fence = fence + 1, lease_until = '-infinity'
                 FROM fanout WHERE id = $1",
                endpoint,
                position,
            );
            if changed.execute(&mut *transaction).await?.rows_affected() == 0 {
                return Ok(false);
            }
            Details::default().with("after", Some(id))
        }
        Replay::Event { id, position } => {
            let changed = sqlx::query!(
                "UPDATE webhook_endpoints SET fence = fence + 1, lease_until = '-infinity'
                 WHERE id = $1",
                endpoint,
            );
            if changed.execute(&mut *transaction).await?.rows_affected() == 0 {
                return Ok(false);
            }
            sqlx::query!(
                "INSERT INTO webhook_deliveries
                     (endpoint_id, position, attempts, next_attempt_at, last_error, last_attempt_at)
                 VALUES ($1, $2, 0, clock_timestamp(), '', clock_timestamp())
                 ON CONFLICT (endpoint_id, position) DO UPDATE
                 SET attempts = 0, next_attempt_at = excluded.next_attempt_at",
                endpoint,
                position,
            )
            .execute(&mut *transaction)
            .await?;
            set_retry_at(&mut transaction, endpoint).await?;
            Details::default().with("eventId", Some(id))
        }
    };
    let action = AuditAction::WebhookRedeliveryRequested;
    audit::add(&mut *transaction, asked_by, action, endpoint, details).await?;
    transaction.commit().await?;
    Ok(true)
}
