//! PENDING records: finds them, and claims them for a redrive.

use std::time::Duration;

use contract::RecordId;
use runtime::postgres::PgPool;
use runtime::telemetry::trace::Trace;

use super::{StoreError, records::RecordRow};
use crate::record::Record;

/// The PENDING records in a range of ids.
#[derive(Debug)]
pub struct Pending {
    /// The ids of the records, oldest first, at most `limit`.
    pub records: Vec<RecordId>,
    /// The number of PENDING records, also without a limit.
    pub count: u64,
    /// The oldest PENDING record.
    pub oldest: Option<RecordId>,
    /// Where the next range starts; `None` at the end.
    pub next: Option<RecordId>,
}

/// Reads the first `most` records with ids in `from..until`, whatever their
/// status, so that the cost does not depend on the history. Finds up to `limit`
/// PENDING records and ends at the last of them. Without a limit it only counts.
///
/// # Errors
/// [`StoreError`]
pub async fn find_pending(
    pool: &PgPool,
    from: RecordId,
    until: RecordId,
    most: u32,
    limit: Option<u16>,
) -> Result<Pending, StoreError> {
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
    // If `limit` ended the range, the next range starts after the last record found.
    if limit.is_some_and(|limit| records.len() >= usize::from(limit)) {
        (count, end, more) =
            (u64::try_from(records.len()).unwrap_or(0), records.last().copied(), true);
    }
    Ok(Pending { records, count, oldest, next: end.filter(|_| more).map(RecordId::next) })
}

/// A record that is claimed for a redrive.
#[derive(Debug)]
pub struct Claimed {
    pub record: Record,
    /// The number of this redrive: 1, 2, 3 …
    pub attempt: i32,
    /// The trace of the original request, if it was recorded.
    pub trace: Option<Trace>,
}

/// Claims the records that are PENDING and due, and sets when they are due again:
/// after `first`, then after twice as long each time, up to ten minutes, with a
/// jitter of 25 %. Concurrent replicas claim different records.
///
/// # Errors
/// [`StoreError`]
pub async fn claim_for_redrive(
    pool: &PgPool,
    records: &[RecordId],
    first: Duration,
) -> Result<Vec<Claimed>, StoreError> {
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
    // An invalid row does not delay the others. It becomes due again like them.
    let valid = rows.into_iter().filter_map(|row| {
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
        let record: Result<Record, StoreError> = record.try_into();
        let record = record.inspect_err(|error| {
            tracing::error!(record.id = %row.id, %error, "an invalid record is not redriven");
        });
        let trace = row.traceparent.as_deref().and_then(Trace::parse);
        Some(Claimed { record: record.ok()?, attempt: row.redrives, trace })
    });
    Ok(valid.collect())
}
