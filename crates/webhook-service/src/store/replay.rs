//! Redelivery by request.

use account_service::store::AuditAction;
use audit_log::{Actor, Details};
use runtime::postgres::PgPool;
use sqlx::types::Uuid;

use super::{
    StoreError, audit,
    endpoints::lock_endpoint,
    settle::{add_due, set_retry_at},
};

/// Which events are delivered again. The ids are those of the request.
#[derive(Debug, Clone, Copy)]
pub enum Replay<'a> {
    /// The event at a position, with all its attempts.
    Event { id: &'a str, position: i64 },
    /// The events after a position. Then the endpoint goes on.
    After { id: &'a str, position: i64 },
}

/// Delivers events again, also during a pause of the endpoint. Gives whether there is such an
/// endpoint.
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
    // First: a request that waits for a held row holds up no announcement.
    if lock_endpoint(&mut *transaction, endpoint).await?.is_none() {
        return Ok(false);
    }
    let details = match replay {
        Replay::After { id, position } => {
            // It has no later events than the log has.
            let changed = sqlx::query!(
                "WITH fanout AS (SELECT position FROM webhook_fanout WHERE only_row FOR SHARE)
                 UPDATE webhook_endpoints AS e
                 SET position = least(e.position, $2), announced = fanout.position,
                     not_before = clock_timestamp(), pause = 0,
                     fence = webhook_fence(), lease_until = '-infinity',
                     is_slow = is_slow OR lease_until > clock_timestamp()
                 FROM fanout WHERE id = $1",
                endpoint,
                position,
            );
            changed.execute(&mut *transaction).await?;
            Details::default().with("after", Some(id))
        }
        Replay::Event { id, position } => {
            let changed = sqlx::query!(
                "UPDATE webhook_endpoints
                 SET not_before = clock_timestamp(), pause = 0,
                     fence = webhook_fence(), lease_until = '-infinity',
                     is_slow = is_slow OR lease_until > clock_timestamp()
                 WHERE id = $1",
                endpoint,
            );
            changed.execute(&mut *transaction).await?;
            add_due(&mut *transaction, endpoint, &[position]).await?;
            Details::default().with("eventId", Some(id))
        }
    };
    set_retry_at(&mut transaction, &[endpoint]).await?;
    let action = AuditAction::WebhookRedeliveryRequested;
    audit::add(&mut *transaction, asked_by, action, endpoint, details).await?;
    transaction.commit().await?;
    Ok(true)
}
