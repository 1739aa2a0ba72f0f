//! Records that stay PENDING: found, and claimed to be sent again.

use std::time::Duration;

use contract::RecordId;
use runtime::trace::Trace;
use sqlx::PgPool;

use super::records::RecordRow;
use crate::record::Record;

/// What a look at a part of the records found.
#[derive(Debug)]
pub struct Pending {
    /// The PENDING ones in it, oldest first, at most as many as asked for.
    pub records: Vec<RecordId>,
    /// How many PENDING ones it has, also if none was asked for.
    pub count: u64,
    /// The oldest of those.
    pub oldest: Option<RecordId>,
    /// Where the part ended; `None` if it was the last.
    pub next: Option<RecordId>,
}

/// Looks at the next `most` records with ids in `from..until`, whatever their
/// status, so that a look costs the same whatever the history. Finds up to
/// `limit` PENDING ones, and ends with the last of those; without a limit it
/// only counts them.
///
/// # Errors
/// The database's.
pub async fn find_pending(
    pool: &PgPool,
    from: RecordId,
    until: RecordId,
    most: u32,
    limit: Option<u16>,
) -> sqlx::Result<Pending> {
    let looked = sqlx::query!(
        r#"WITH part AS MATERIALIZED (
               SELECT id, status FROM transaction_records WHERE id >= $1 AND id < $2
               ORDER BY id LIMIT $3
           )
           SELECT
               (SELECT id FROM part ORDER BY id DESC LIMIT 1) AS last,
               (SELECT count(*) FROM part) AS "looked!",
               (SELECT count(*) FROM part WHERE status = 'PENDING') AS "count!",
               (SELECT id FROM part WHERE status = 'PENDING' ORDER BY id LIMIT 1) AS oldest,
               ARRAY(SELECT id FROM part WHERE status = 'PENDING' ORDER BY id LIMIT $4)
                   AS "pending!""#,
        from.as_uuid(),
        until.as_uuid(),
        i64::from(most),
        i64::from(limit.unwrap_or(0)),
    )
    .fetch_one(pool)
    .await?;
    let records: Vec<_> = looked.pending.into_iter().map(RecordId::from_uuid).collect();
    let oldest = looked.oldest.map(RecordId::from_uuid);
    let mut count = u64::try_from(looked.count).unwrap_or(0);
    let mut end = looked.last.map(RecordId::from_uuid);
    let mut more = looked.looked >= i64::from(most);
    // Cut short by `limit`, the next look goes on after the last one found.
    if limit.is_some_and(|limit| records.len() >= usize::from(limit)) {
        (count, end, more) =
            (u64::try_from(records.len()).unwrap_or(0), records.last().copied(), true);
    }
    Ok(Pending { records, count, oldest, next: end.filter(|_| more).map(RecordId::next) })
}

/// A record whose command is to be sent again.
#[derive(Debug)]
pub struct Claimed {
    /// The record.
    pub record: Record,
    /// The number of this attempt.
    pub attempt: i32,
    /// Where its request was in its trace, if that was recorded.
    pub trace: Option<Trace>,
}

/// Takes those of these records that are PENDING and due to be sent again, and
/// puts off their next turn: `first`, then twice as long each time, up to ten
/// minutes, with jitter. Replicas that ask at the same time get different
/// ones.
///
/// # Errors
/// The database's.
pub async fn claim_for_redrive(
    pool: &PgPool,
    records: &[RecordId],
    first: Duration,
) -> sqlx::Result<Vec<Claimed>> {
    let ids: Vec<_> = records.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        "UPDATE transaction_records AS r
         SET redrives = r.redrives + 1,
             redrive_at = now() + least(600, $2 * 2 ^ least(r.redrives, 10))
                          * (0.75 + random() / 2) * interval '1 second'
         FROM (
             SELECT id FROM transaction_records
             WHERE id = ANY($1) AND status = 'PENDING'
                   AND (redrive_at IS NULL OR redrive_at <= now())
             ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
         ) AS due
         WHERE r.id = ANY (ARRAY[due.id]) -- found by its key, whatever the statistics say
         RETURNING r.id, r.account_id, r.user_id, r.type AS kind, r.amount, r.currency,
                   r.transaction_id, r.reason, r.balance_after, r.created_at, r.updated_at, r.redrives,
                   r.traceparent",
        &ids,
        first.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    // What can't be read holds nobody else up; its next turn is put off like any other's.
    let readable = rows.into_iter().filter_map(|row| {
            let record = RecordRow {
                id: row.id,
                account_id: row.account_id,
                user_id: row.user_id,
                kind: row.kind,
                amount: row.amount,
                currency: row.currency,
                transaction_id: row.transaction_id,
                reason: row.reason,
                balance_after: row.balance_after,
                created_at: row.created_at,
                updated_at: row.updated_at,
            };
            let read: sqlx::Result<Record> = record.try_into();
            let read = read.inspect_err(|error| {
                tracing::error!(record.id = %row.id, %error, "a record can't be read, and not sent again");
            });
            let trace = row.traceparent.as_deref().and_then(Trace::at);
            Some(Claimed { record: read.ok()?, attempt: row.redrives, trace })
        });
    Ok(readable.collect())
}
