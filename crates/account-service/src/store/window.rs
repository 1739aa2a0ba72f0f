//! The window of ids: how the redrive finds each PENDING record, whatever clock made its
//! id, and whatever the size of the history.
//!
//! A record is inside the window, or it was listed in the transaction that inserted it (by
//! a trigger: see the migration `create_pending_list`). The window moves with the time.
//! The range that it leaves is read once, and what is still PENDING is listed.
//!
//! A transaction may have read the window before it moved, and commit later. So a range is
//! read for the last time only after all transactions have ended that began before the
//! move was committed: [`fence`] has their upper bound.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use contract::RecordId;
use runtime::postgres::PgPool;
use sqlx::{PgConnection, types::Uuid};

use super::StoreError;

/// The window, and the rest of the previous one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The ids inside.
    pub inside: Range<RecordId>,
    /// The previous window, as far as it was not read yet.
    pub left: Range<RecordId>,
}

impl Window {
    /// The next range of the previous window that is outside this one.
    #[must_use]
    pub fn unread(&self) -> Option<Range<RecordId>> {
        let Self { inside, left } = self;
        let below = left.start..left.end.min(inside.start);
        let above = left.start.max(inside.end)..left.end;
        [below, above].into_iter().find(|range| !range.is_empty())
    }

    fn from_columns([floor, ceiling, left_floor, left_ceiling]: [Uuid; 4]) -> Self {
        let [floor, ceiling, left_floor, left_ceiling] =
            [floor, ceiling, left_floor, left_ceiling].map(RecordId::from_uuid);
        Self { inside: floor..ceiling, left: left_floor..left_ceiling }
    }
}

/// The window at a moment.
#[derive(Debug, Clone)]
pub struct WindowView {
    /// The window.
    pub window: Window,
    /// The time by the database's clock.
    pub now: SystemTime,
    /// All transactions with lower ids have ended.
    pub ended_below: i64,
    /// Whether any record is inside.
    pub has_records: bool,
}

/// Reads the window.
///
/// # Errors
/// [`StoreError`]
pub async fn find_window(pool: &PgPool) -> Result<WindowView, StoreError> {
    let row = sqlx::query!(
        r#"SELECT floor, ceiling, left_floor, left_ceiling, clock_timestamp() AS "now!",
                  pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "ended_below!",
                  EXISTS (SELECT FROM transaction_records WHERE id >= floor AND id < ceiling)
                      AS "has_records!"
           FROM redrive_window WHERE only_row"#
    );
    let row = row.fetch_one(pool).await?;
    Ok(WindowView {
        window: Window::from_columns([row.floor, row.ceiling, row.left_floor, row.left_ceiling]),
        now: row.now.into(),
        ended_below: row.ended_below,
        has_records: row.has_records,
    })
}

/// The id of a new transaction: higher than that of each one that has begun to write.
///
/// # Errors
/// [`StoreError`]
pub async fn fence(pool: &PgPool) -> Result<i64, StoreError> {
    let fence = sqlx::query_scalar!(r#"SELECT pg_current_xact_id()::text::bigint AS "fence!""#);
    Ok(fence.fetch_one(pool).await?)
}

/// The outcome of [`leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The previous window is read, and the window has moved.
    Moved,
    /// The previous window has more records than the limit.
    More,
    /// Another replica has moved the window, or moves it now.
    Busy,
}

/// Lists the PENDING records of the previous window, by reading up to `limit` records. They
/// were accepted before `after`, or earlier. If none is left, moves the window to `next`.
///
/// The caller has made sure that no transaction can still insert a record into the
/// previous window.
///
/// # Errors
/// [`StoreError`]
pub async fn leave(
    pool: &PgPool,
    inside: &Range<RecordId>,
    next: &Range<RecordId>,
    after: Duration,
    limit: u32,
) -> Result<Leave, StoreError> {
    let mut transaction = pool.begin().await?;
    let row = sqlx::query!(
        "SELECT floor, ceiling, left_floor, left_ceiling FROM redrive_window
         WHERE floor = $1 AND ceiling = $2 FOR UPDATE SKIP LOCKED",
        inside.start.as_uuid(),
        inside.end.as_uuid(),
    );
    let Some(row) = row.fetch_optional(&mut *transaction).await? else { return Ok(Leave::Busy) };
    let mut window =
        Window::from_columns([row.floor, row.ceiling, row.left_floor, row.left_ceiling]);
    let mut budget = limit;
    let mut outcome = Leave::Moved;
    while let Some(range) = window.unread() {
        let read = list_range(&mut transaction, &range, after, budget).await?;
        let last = read.last.filter(|_| read.rows >= budget);
        window.left.start = last.map_or(range.end, RecordId::next);
        budget = budget.saturating_sub(read.rows);
        if budget == 0 {
            outcome = Leave::More;
            break;
        }
    }
    if outcome == Leave::Moved {
        window = Window { left: window.inside, inside: next.clone() };
    }
    sqlx::query!(
        "UPDATE redrive_window
         SET floor = $1, ceiling = $2, left_floor = $3, left_ceiling = $4, moved_at = now()
         WHERE only_row",
        window.inside.start.as_uuid(),
        window.inside.end.as_uuid(),
        window.left.start.as_uuid(),
        window.left.end.as_uuid(),
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(outcome)
}

/// Lists PENDING records of the window and of the rest of the previous one, before these are left:
/// something keeps the window from moving. Reads up to `limit` records, from the id `from` on.
/// Returns where to go on: at the first id again once all were read, because a record can be
/// committed behind the position.
///
/// Notes that the window is looked after: the trigger must not open it for all new ids. They could
/// then be too many to be read soon.
///
/// # Errors
/// [`StoreError`]
pub async fn list_early(
    pool: &PgPool,
    window: &Window,
    from: RecordId,
    limit: u32,
) -> Result<RecordId, StoreError> {
    let mut connection = pool.acquire().await?;
    sqlx::query!(
        "UPDATE redrive_window SET moved_at = now()
         WHERE only_row AND moved_at < now() - interval '1 hour'"
    )
    .execute(&mut *connection)
    .await?;
    let mut ranges: Vec<_> = window.unread().into_iter().chain([window.inside.clone()]).collect();
    ranges.sort_by_key(|range| range.start);
    let mut budget = limit;
    for range in ranges {
        let range = range.start.max(from)..range.end;
        let read = list_range(&mut connection, &range, Duration::ZERO, budget).await?;
        if let Some(last) = read.last.filter(|_| read.rows >= budget) {
            return Ok(last.next());
        }
        budget -= read.rows;
    }
    Ok(RecordId::FIRST)
}

/// The part of a range that was read.
struct ReadPart {
    rows: u32,
    last: Option<RecordId>,
}

/// Lists PENDING records that were accepted before `age`, or earlier.
async fn list_range(
    connection: &mut PgConnection,
    range: &Range<RecordId>,
    age: Duration,
    limit: u32,
) -> Result<ReadPart, StoreError> {
    let part = sqlx::query!(
        r#"WITH part AS MATERIALIZED (
               SELECT id, account_id, status, created_at FROM transaction_records
               WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3
           ), listed AS (
               INSERT INTO pending_records (record_id, account_id, listed_at)
               SELECT id, account_id, least(created_at, now() - make_interval(secs => $4)) FROM part
               WHERE status = 'PENDING' AND id NOT IN (
                   -- ON CONFLICT would wait for another transaction that deletes the row.
                   SELECT record_id FROM pending_records WHERE record_id = ANY (ARRAY(
                       SELECT id FROM part WHERE status = 'PENDING')))
               ON CONFLICT DO NOTHING
           )
           SELECT count(*) AS "rows!", (SELECT id FROM part ORDER BY id DESC LIMIT 1) AS last
           FROM part"#,
        range.start.as_uuid(),
        range.end.as_uuid(),
        i64::from(limit),
        age.as_secs_f64(),
    );
    let part = part.fetch_one(connection).await?;
    let rows = u32::try_from(part.rows).unwrap_or(u32::MAX);
    Ok(ReadPart { rows, last: part.last.map(RecordId::from_uuid) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> RecordId {
        RecordId::from_uuid(Uuid::from_u128(number))
    }

    fn unread(inside: Range<u128>, left: Range<u128>) -> Vec<Range<RecordId>> {
        let ids = |range: Range<u128>| id(range.start)..id(range.end);
        let mut window = Window { inside: ids(inside), left: ids(left) };
        let mut ranges = Vec::new();
        while let Some(range) = window.unread() {
            window.left.start = range.end;
            ranges.push(range);
        }
        ranges
    }

    #[test]
    fn a_window_that_moves_leaves_the_ids_outside_of_it() {
        // Forward, back, far away, and from all ids.
        assert_eq!(unread(40..100, 30..90), [id(30)..id(40)]);
        assert_eq!(unread(30..90, 40..100), [id(90)..id(100)]);
        assert_eq!(unread(1000..1100, 30..90), [id(30)..id(90)]);
        assert_eq!(unread(40..100, 0..u128::MAX), [id(0)..id(40), id(100)..id(u128::MAX)]);
        assert_eq!(unread(40..100, 50..60), []);
        assert_eq!(unread(40..100, 0..0), []);
    }
}
