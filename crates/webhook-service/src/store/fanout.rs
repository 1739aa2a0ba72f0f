//! Announces events to endpoints.

use runtime::postgres::PgPool;
use sqlx::PgExecutor;

use super::StoreError;

/// How far the log is announced.
///
/// # Errors
/// [`StoreError`]
pub async fn find_announced(database: impl PgExecutor<'_>) -> Result<i64, StoreError> {
    let position = sqlx::query_scalar!("SELECT position FROM webhook_fanout WHERE only_row");
    Ok(position.fetch_one(database).await?)
}

/// Announces the events above `from`, up to `to`: the last position of each owner. Returns `false`
/// if another replica has announced them.
///
/// The second statement has a snapshot of its own: it sees each endpoint that began at `from`.
///
/// # Errors
/// [`StoreError`]. The events may be announced nevertheless.
pub async fn announce(
    pool: &PgPool,
    from: i64,
    to: i64,
    owners: &[String],
    positions: &[i64],
) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let moved = sqlx::query!(
        "UPDATE webhook_fanout SET position = $2 WHERE only_row AND position = $1",
        from,
        to,
    )
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    sqlx::query!(
        "WITH new AS (
             SELECT id, own.position
             FROM unnest($1::text[], $2::bigint[]) AS own (owner, position)
                 JOIN webhook_endpoints ON owner_id = own.owner
             UNION ALL
             SELECT id, (SELECT max(position) FROM unnest($2) AS own (position))
             FROM webhook_endpoints WHERE owner_id IS NULL
         )
         UPDATE webhook_endpoints AS e SET announced = new.position
         FROM new WHERE e.id = new.id AND announced < new.position",
        owners,
        positions,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}
