//! The list of PENDING records: reads it, and claims records for a redrive.

use std::time::Duration;

use contract::RecordId;
use runtime::postgres::PgPool;
use runtime::telemetry::trace::Trace;

use super::{StoreError, records::RecordRow};
use crate::record::Record;

/// The part of the list that was read.
#[derive(Debug)]
pub struct Listed {
    /// The records that are due for a redrive, in the order of their ids.
    pub due: Vec<RecordId>,
    /// The number of records that are PENDING for long enough to be redriven.
    pub count: u64,
    /// The age of the oldest of them, by the database's clock.
    pub oldest: Option<Duration>,
    /// Where the next part starts; `None` at the end.
    pub next: Option<RecordId>,
}

/// Reads up to `most` listed records from this id on, and removes the settled ones from the
/// list. Finds up to `limit` records that are PENDING for `after` or longer and due for a
/// redrive, and ends at the last of them.
///
/// The times are by the database's clock. A time in the future is the work of a clock that
/// was ahead, and does not count.
///
/// # Errors
/// [`StoreError`]
pub async fn read_list(
    pool: &PgPool,
    from: RecordId,
    after: Duration,
    (most, limit): (u32, u16),
) -> Result<Listed, StoreError> {
    let row = sqlx::query!(
        r#"WITH part AS MATERIALIZED (
               SELECT record_id, status, now() - listed_at AS age,
                   redrive_at IS NULL OR redrive_at <= now()
                       OR redrive_at > now() + longest_redrive_delay(redrives, $2) AS is_due
               FROM pending_records LEFT JOIN transaction_records ON id = record_id
               WHERE record_id >= $1 ORDER BY record_id LIMIT $3
           ), aged AS MATERIALIZED (
               SELECT record_id, is_due, greatest(age, interval '0') AS age FROM part
               WHERE status = 'PENDING'
                   AND (age >= make_interval(secs => $2) OR age < interval '-1 minute')
           ), due AS MATERIALIZED (
               SELECT record_id FROM aged WHERE is_due ORDER BY record_id LIMIT $4
           ), part_end AS MATERIALIZED (
               SELECT CASE WHEN (SELECT count(*) FROM due) = $4 AND $4 > 0
                   THEN (SELECT record_id FROM due ORDER BY record_id DESC LIMIT 1)
                   WHEN (SELECT count(*) FROM part) = $3
                   THEN (SELECT record_id FROM part ORDER BY record_id DESC LIMIT 1)
               END AS last
           ), removed AS (
               -- Another transaction may hold a row: it is removed by a later round.
               DELETE FROM pending_records WHERE record_id = ANY (ARRAY(
                   SELECT record_id FROM pending_records
                   WHERE record_id = ANY (ARRAY(
                       SELECT record_id FROM part WHERE status IS DISTINCT FROM 'PENDING'))
                   ORDER BY record_id FOR UPDATE SKIP LOCKED))
           )
           SELECT last,
               ARRAY(SELECT record_id FROM due) AS "due!",
               (SELECT count(*) FROM aged WHERE last IS NULL OR record_id <= last) AS "count!",
               (SELECT extract(epoch FROM max(age))::float8 FROM aged
                WHERE last IS NULL OR record_id <= last) AS oldest
           FROM part_end"#,
        from.as_uuid(),
        after.as_secs_f64(),
        i64::from(most),
        i64::from(limit),
    );
    let row = row.fetch_one(pool).await?;
    Ok(Listed {
        due: row.due.into_iter().map(RecordId::from_uuid).collect(),
        count: u64::try_from(row.count).unwrap_or(0),
        oldest: row.oldest.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        next: row.last.map(|last| RecordId::from_uuid(last).next()),
    })
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
/// A record that would be due later than after its longest delay was claimed while the
/// database's clock was ahead. It is due now.
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
             redrive_at = now() + longest_redrive_delay(r.redrives + 1, $2)
                          * (0.6 + random() * 0.4)
         FROM (
             SELECT id FROM transaction_records
             WHERE id = ANY($1) AND status = 'PENDING'
                   AND (redrive_at IS NULL OR redrive_at <= now()
                        OR redrive_at > now() + longest_redrive_delay(redrives, $2))
             ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
         ) AS due
         WHERE r.id = ANY (ARRAY[due.id]) -- found by its key, whatever the statistics say
         RETURNING r.id, r.account_id, r.user_id, r.type AS kind, r.amount, r.currency,
                   r.transaction_id, r.reason, r.balance_after, r.account_seq, r.idempotency_key,
                   r.reference, r.description, r.metadata::text AS metadata, r.api_key_id, r.created_at,
                   r.updated_at, r.redrives, r.traceparent",
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
            account_seq: row.account_seq,
            idempotency_key: row.idempotency_key,
            reference: row.reference,
            description: row.description,
            metadata: row.metadata,
            api_key_id: row.api_key_id,
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

/// Makes these PENDING records due within `limit`, with a jitter of 25 %, unless they are due
/// earlier. For commands that the broker refused: the next redrive of a record may be ten minutes
/// away, and an operator may remove the cause of the refusal at any time.
///
/// # Errors
/// [`StoreError`]
pub async fn redrive_within(
    pool: &PgPool,
    records: &[RecordId],
    limit: Duration,
) -> Result<(), StoreError> {
    let ids: Vec<_> = records.iter().map(|id| id.as_uuid()).collect();
    sqlx::query!(
        "UPDATE transaction_records AS r
         SET redrive_at = least(redrive_at, now() + $2 * (0.75 + random() * 0.25) * interval '1 second')
         WHERE id = ANY (ARRAY(
             SELECT id FROM transaction_records WHERE id = ANY($1) AND status = 'PENDING'
             ORDER BY id FOR NO KEY UPDATE SKIP LOCKED))",
        &ids,
        limit.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(())
}
