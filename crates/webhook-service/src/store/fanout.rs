//! Announces events to endpoints.
//!
//! Another transaction may hold the row of an endpoint. Its announcement is stored then, and made
//! later; those to other endpoints go on.

use runtime::postgres::PgPool;
use sqlx::PgExecutor;

use super::StoreError;

/// How far the log is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    pub position: i64,
    /// Whether announcements wait for endpoints whose row was held.
    pub has_held: bool,
}

/// How far the log is announced.
///
/// # Errors
/// [`StoreError`]
pub async fn find_announced(database: impl PgExecutor<'_>) -> Result<Announced, StoreError> {
    let announced = sqlx::query_as!(
        Announced,
        r#"SELECT position, EXISTS (SELECT FROM webhook_held_announcements) AS "has_held!"
           FROM webhook_fanout WHERE only_row"#
    );
    Ok(announced.fetch_one(database).await?)
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
        "WITH own AS (
             SELECT owner, position FROM unnest($1::text[], $2::bigint[]) AS own (owner, position)
         ), new AS MATERIALIZED (
             SELECT id, own.position FROM own JOIN webhook_endpoints ON owner_id = own.owner
             WHERE announced < own.position
             UNION ALL
             SELECT id, last.position
             FROM webhook_endpoints, (SELECT max(position) AS position FROM own) AS last
             WHERE owner_id IS NULL AND announced < last.position
         ), free AS MATERIALIZED (
             SELECT id FROM webhook_endpoints WHERE id IN (SELECT id FROM new)
             ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
         ), made AS (
             UPDATE webhook_endpoints AS e SET announced = greatest(announced, new.position)
             FROM new JOIN free USING (id) WHERE e.id = new.id
         )
         INSERT INTO webhook_held_announcements AS held (endpoint_id, position)
         SELECT id, position FROM new WHERE id NOT IN (SELECT id FROM free)
         ON CONFLICT (endpoint_id) DO UPDATE
         SET position = greatest(held.position, excluded.position)",
        owners,
        positions,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Makes the announcements that wait, as far as the rows of their endpoints are free. Gives their
/// number.
///
/// # Errors
/// [`StoreError`]. They may be made nevertheless.
pub async fn announce_held(pool: &PgPool) -> Result<u64, StoreError> {
    let mut transaction = pool.begin().await?;
    // One replica at a time writes the table.
    sqlx::query!("SELECT FROM webhook_fanout WHERE only_row FOR NO KEY UPDATE")
        .execute(&mut *transaction)
        .await?;
    let made = sqlx::query!(
        "WITH free AS MATERIALIZED (
             SELECT id FROM webhook_endpoints
             WHERE id IN (SELECT endpoint_id FROM webhook_held_announcements)
             ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
         ), made AS (
             UPDATE webhook_endpoints AS e SET announced = greatest(announced, held.position)
             FROM webhook_held_announcements AS held JOIN free ON id = endpoint_id
             WHERE e.id = endpoint_id
         )
         -- With those of endpoints that were deleted.
         DELETE FROM webhook_held_announcements
         WHERE endpoint_id IN (SELECT id FROM free)
             OR NOT EXISTS (SELECT FROM webhook_endpoints WHERE id = endpoint_id)"
    );
    let made = made.execute(&mut *transaction).await?.rows_affected();
    transaction.commit().await?;
    Ok(made)
}
