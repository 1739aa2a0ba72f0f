//! Inserts PENDING records, unless their idempotency keys are taken. `created_at` is
//! this service's clock, like the time in the record's id.

use std::{collections::HashSet, sync::Arc};

use contract::RecordId;
use runtime::postgres::{PgPool, PgTransaction};
use runtime::telemetry::trace::Trace;
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::{
    StoreError,
    columns::Columns,
    key_scope::{self, OwnKey, Resolved},
};
use crate::record::{NewRecord, Record};

/// A record to insert, and the trace context of its request.
pub(super) type Traced<'a> = (&'a NewRecord, &'a Trace);

/// The outcome of storing a request to move money.
#[derive(Debug)]
pub enum Accepted {
    /// The record was inserted, PENDING.
    New(Record),
    /// The same request was stored before under this key, with this record.
    Replayed(Record),
    /// Another request was stored before under this key.
    KeyReused,
}

/// The constraint that an account has one record per stored key: see [`key_scope`].
const UNIQUE_KEY: &str = "transaction_records_account_id_idempotency_key_key";

/// The time of this service's clock, truncated to the microseconds of a column.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}

/// Inserts all records with their trace contexts, or none if a key is taken (`None`).
/// The records are committed when this returns. The database needs two thirds of the
/// time of [`insert_free`].
///
/// # Errors
/// As [`insert_free`].
pub async fn insert_all(
    pool: &PgPool,
    new: &[NewRecord],
    traces: &[Trace],
) -> Result<Option<Vec<Accepted>>, StoreError> {
    let now = now();
    match insert_or_fail(pool, &Columns::new(new.iter().zip(traces)), now).await {
        Ok(()) => Ok(Some(new.iter().map(|record| Accepted::New(record.pending(now))).collect())),
        Err(sqlx::Error::Database(error)) if error.constraint() == Some(UNIQUE_KEY) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Inserts the records whose keys are free. The records are committed when this
/// returns. Returns the outcome for each record, in their order. The outcome of a taken
/// key is an error if the stored record is invalid or missing.
///
/// # Errors
/// [`StoreError`]. After an error the records may still be stored, because the
/// connection can be lost during the commit. A retry with the same keys finds them.
pub async fn insert_free(
    pool: &PgPool,
    new: &[NewRecord],
    traces: &[Trace],
) -> Result<Vec<Result<Accepted, StoreError>>, StoreError> {
    let (now, records) = (now(), new.iter().zip(traces));
    let inserted = insert_or_skip(pool, &Columns::new(records.clone()), now).await?;
    accepted(pool, records, inserted, now).await
}

/// The outcome for each record, after those with the ids `inserted` were inserted.
async fn accepted<'a>(
    pool: &PgPool,
    new: impl ExactSizeIterator<Item = Traced<'a>> + Clone,
    inserted: Vec<Uuid>,
    now: OffsetDateTime,
) -> Result<Vec<Result<Accepted, StoreError>>, StoreError> {
    let mut inserted: HashSet<_> = inserted.into_iter().map(RecordId::from_uuid).collect();
    let mut resolved = Resolved::default();
    if inserted.len() < new.len() {
        let skipped = new.clone().filter(|(record, _)| !inserted.contains(&record.id)).collect();
        let resolving = key_scope::resolve(pool, skipped, now).await;
        resolved = resolving.map_err(|error| StoreError::AfterCommit(Arc::new(error)))?;
        inserted.extend(resolved.inserted.drain(..).map(RecordId::from_uuid));
    }
    let outcome = |(new, _): Traced<'_>| {
        if inserted.contains(&new.id) {
            return Ok(Accepted::New(new.pending(now)));
        }
        let Some((record, hash)) = resolved.taken.get(&OwnKey::of(new)) else {
            return Err(resolved.failure.clone().unwrap_or(StoreError::MissingRecord));
        };
        if *hash == new.request_hash() {
            record.clone().map(Accepted::Replayed)
        } else {
            Ok(Accepted::KeyReused)
        }
    };
    Ok(new.map(outcome).collect())
}

/// As [`insert_free`], but gives up soon if another transaction is inserting one of the keys:
/// see [`StoreError::is_locked`].
///
/// # Errors
/// As [`insert_free`].
pub async fn insert_unlocked(
    pool: &PgPool,
    new: &[NewRecord],
    traces: &[Trace],
) -> Result<Vec<Result<Accepted, StoreError>>, StoreError> {
    let (now, records) = (now(), new.iter().zip(traces));
    let mut transaction = begin_unlocked(pool).await?;
    let columns = Columns::new(records.clone());
    let inserted = insert_or_skip(&mut *transaction, &columns, now).await?;
    transaction.commit().await?;
    accepted(pool, records, inserted, now).await
}

/// Begins a transaction that waits for locks for a short time only.
pub(super) async fn begin_unlocked(pool: &PgPool) -> sqlx::Result<PgTransaction> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("SET LOCAL lock_timeout = '100ms'").execute(&mut *transaction).await?;
    Ok(transaction)
}

/// Fails if a key is taken.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn insert_or_fail(pool: &PgPool, new: &Columns<'_>, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency,
              traceparent, created_at, updated_at, reference, description, metadata, api_key_id)
         SELECT id, account_id, key, request_hash, user_id, type, amount, currency,
             traceparent, $10, $10, reference, description, metadata::jsonb, api_key_id
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[],
                     $6::text[], $7::numeric[], $8::text[], $9::text[],
                     $11::text[], $12::text[], $13::text[], $14::uuid[])
             AS new (id, account_id, key, request_hash, user_id, type, amount, currency, traceparent,
                     reference, description, metadata, api_key_id)",
        &new.ids,
        &new.account_ids,
        &new.keys as &[&str],
        &new.hashes,
        &new.user_ids as &[&str],
        &new.kinds as &[&str],
        &new.amounts,
        &new.currencies as &[&str],
        &new.traceparents as &[Option<String>],
        now,
        &new.labels.references as &[Option<&str>],
        &new.labels.descriptions as &[Option<&str>],
        &new.labels.metadata as &[Option<String>],
        &new.api_keys as &[Option<Uuid>],
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Skips taken keys, also those of concurrent inserts. Returns the ids of the
/// inserted records.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn insert_or_skip(
    database: impl PgExecutor<'_>,
    new: &Columns<'_>,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency,
              traceparent, created_at, updated_at, reference, description, metadata, api_key_id)
         SELECT id, account_id, key, request_hash, user_id, type, amount, currency,
             traceparent, $10, $10, reference, description, metadata::jsonb, api_key_id
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[],
                     $6::text[], $7::numeric[], $8::text[], $9::text[],
                     $11::text[], $12::text[], $13::text[], $14::uuid[])
             AS new (id, account_id, key, request_hash, user_id, type, amount, currency, traceparent,
                     reference, description, metadata, api_key_id)
         ON CONFLICT (account_id, idempotency_key) DO NOTHING
         RETURNING id",
        &new.ids,
        &new.account_ids,
        &new.keys as &[&str],
        &new.hashes,
        &new.user_ids as &[&str],
        &new.kinds as &[&str],
        &new.amounts,
        &new.currencies as &[&str],
        &new.traceparents as &[Option<String>],
        now,
        &new.labels.references as &[Option<&str>],
        &new.labels.descriptions as &[Option<&str>],
        &new.labels.metadata as &[Option<String>],
        &new.api_keys as &[Option<Uuid>],
    )
    .fetch_all(database)
    .await
}
