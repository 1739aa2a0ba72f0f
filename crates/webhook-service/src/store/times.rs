//! Times in the future that no clock would write now: the database's clock was ahead when they were
//! written. Uncapped, they would keep webhooks silent for as long.

use std::time::Duration;

use runtime::postgres::PgPool;

use super::{StoreError, settle::set_retry_at};

/// Shortens leases, pauses and delays to the longest that the present time allows. `longest` is for
/// those of an unknown length. A row that another transaction holds is left alone, until a later
/// call. Gives the number of endpoints.
///
/// # Errors
/// [`StoreError`]. The times may be capped nevertheless.
pub async fn cap_times(pool: &PgPool, longest: Duration) -> Result<usize, StoreError> {
    let longest = longest.as_secs_f64();
    let mut transaction = pool.begin().await?;
    let late = sqlx::query_scalar!(
        "SELECT id FROM webhook_endpoints AS e
         WHERE lease_until > clock_timestamp() + interval '60 seconds'
             OR not_before > clock_timestamp() + make_interval(secs => coalesce(pause, $1))
             OR failing_since > clock_timestamp()
             OR EXISTS (SELECT FROM webhook_deliveries
                        WHERE endpoint_id = e.id AND next_attempt_at
                            > clock_timestamp() + make_interval(secs => coalesce(delay, $1)))
         ORDER BY id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED",
        longest,
    );
    let late = late.fetch_all(&mut *transaction).await?;
    if late.is_empty() {
        transaction.rollback().await?;
        return Ok(0);
    }
    // `least` takes NULL for no value: an endpoint that does not fail must not get a `failing_since`.
    sqlx::query!(
        "UPDATE webhook_endpoints
         SET lease_until = least(lease_until, clock_timestamp() + interval '60 seconds'),
             not_before = least(not_before,
                 clock_timestamp() + make_interval(secs => coalesce(pause, $2))),
             failing_since = CASE WHEN failing_since IS NOT NULL
                 THEN least(failing_since, clock_timestamp()) END
         WHERE id = ANY($1)",
        &late,
        longest,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "UPDATE webhook_deliveries
         SET next_attempt_at = clock_timestamp() + make_interval(secs => coalesce(delay, $2))
         WHERE endpoint_id = ANY($1) AND next_attempt_at
             > clock_timestamp() + make_interval(secs => coalesce(delay, $2))",
        &late,
        longest,
    )
    .execute(&mut *transaction)
    .await?;
    set_retry_at(&mut transaction, &late).await?;
    transaction.commit().await?;
    Ok(late.len())
}
