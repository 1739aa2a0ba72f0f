//! Announces events to endpoints.

use account_service::store::EventMark;
use runtime::postgres::PgPool;
use sqlx::PgExecutor;

use super::StoreError;

/// How far the log is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    pub position: i64,
    /// Whether endpoints have not got their announcements yet.
    pub has_late: bool,
}

/// How far the log is announced.
///
/// # Errors
/// [`StoreError`]
pub async fn find_announced(database: impl PgExecutor<'_>) -> Result<Announced, StoreError> {
    let announced = sqlx::query_as!(
        Announced,
        r#"SELECT position, EXISTS (SELECT FROM webhook_late_announcements) AS "has_late!"
           FROM webhook_fanout WHERE only_row"#
    );
    Ok(announced.fetch_one(database).await?)
}

/// Announces the events above `from`, up to `to`: the last position of each owner. Returns `false`
/// if another replica has announced them, or the database has lost the event `to`: a promoted
/// standby gives the positions up to it to others.
///
/// The second statement has a snapshot of its own: it sees each endpoint that began at `from`. It
/// waits for no endpoint whose row another transaction holds: [`announce_late`] makes up for it.
///
/// # Errors
/// [`StoreError`]. The events may be announced nevertheless.
pub async fn announce(
    pool: &PgPool,
    from: i64,
    to: EventMark,
    owners: &[String],
    positions: &[i64],
) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let moved = sqlx::query!(
        "UPDATE webhook_fanout SET position = $2 WHERE only_row AND position = $1
             AND EXISTS (SELECT FROM events
                         WHERE position = $2 AND account_id = $3 AND created_at = $4)",
        from,
        to.position,
        to.account.as_uuid(),
        to.created_at,
    )
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    sqlx::query!(
        "WITH new AS MATERIALIZED (
             SELECT id, own.position
             FROM unnest($1::text[], $2::bigint[]) AS own (owner, position)
                 JOIN webhook_endpoints ON owner_id = own.owner
             UNION ALL
             SELECT id, (SELECT max(position) FROM unnest($2) AS own (position))
             FROM webhook_endpoints WHERE owner_id IS NULL AND cardinality($2) > 0
         ), free AS MATERIALIZED (
             SELECT id FROM webhook_endpoints WHERE id IN (SELECT id FROM new)
             FOR NO KEY UPDATE SKIP LOCKED
         ), told AS (
             UPDATE webhook_endpoints AS e SET announced = new.position
             FROM new JOIN free USING (id) WHERE e.id = new.id AND announced < new.position
         )
         INSERT INTO webhook_late_announcements AS late (endpoint_id, position)
         SELECT id, position FROM new WHERE id NOT IN (SELECT id FROM free)
         ON CONFLICT (endpoint_id) DO UPDATE
         SET position = greatest(late.position, excluded.position)",
        owners,
        positions,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Announces to the endpoints whose rows were held, as far as they are free now. Gives their
/// number.
///
/// # Errors
/// [`StoreError`]. The events may be announced nevertheless.
pub async fn announce_late(database: impl PgExecutor<'_>) -> Result<u64, StoreError> {
    let announced = sqlx::query!(
        "WITH free AS MATERIALIZED (
             SELECT endpoint_id, late.position
             FROM webhook_late_announcements AS late
                 JOIN webhook_endpoints AS e ON e.id = endpoint_id
             LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
         ), told AS (
             UPDATE webhook_endpoints AS e SET announced = greatest(announced, free.position)
             FROM free WHERE e.id = free.endpoint_id
         )
         DELETE FROM webhook_late_announcements
         WHERE endpoint_id IN (SELECT endpoint_id FROM free)",
    );
    Ok(announced.execute(database).await?.rows_affected())
}

/// Forgets late announcements to endpoints that were deleted.
///
/// # Errors
/// [`StoreError`]
pub async fn delete_late_of_deleted(database: impl PgExecutor<'_>) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM webhook_late_announcements WHERE endpoint_id IN (
             SELECT endpoint_id FROM webhook_late_announcements AS late
             WHERE NOT EXISTS (SELECT FROM webhook_endpoints WHERE id = late.endpoint_id)
             FOR UPDATE SKIP LOCKED)"
    )
    .execute(database)
    .await?;
    Ok(())
}
