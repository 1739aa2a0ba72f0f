//! Inserts PENDING records, unless their idempotency keys are taken. `created_at` is
//! this service's clock, like the time in the record's id.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use contract::{AccountId, RecordId};
use runtime::postgres::PgPool;
use runtime::telemetry::trace::Trace;
use rust_decimal::Decimal;
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::{StoreError, records::RecordRow};
use crate::record::{NewRecord, Record};

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

/// The constraint that an account has one record per key.
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
    match insert_or_fail(pool, &Columns::new(new, traces), now).await {
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
    let now = now();
    let stored = insert_or_skip(pool, &Columns::new(new, traces), now).await?;
    accepted(pool, new, stored, now).await
}

/// The outcome for each record, after those with the ids `stored` were inserted.
async fn accepted(
    pool: &PgPool,
    new: &[NewRecord],
    stored: Vec<Uuid>,
    now: OffsetDateTime,
) -> Result<Vec<Result<Accepted, StoreError>>, StoreError> {
    let stored: HashSet<_> = stored.into_iter().map(RecordId::from_uuid).collect();
    let mut taken = HashMap::new();
    if stored.len() < new.len() {
        let skipped = new.iter().filter(|record| !stored.contains(&record.id));
        let found = find_by_keys(pool, skipped).await;
        taken = found.map_err(|error| StoreError::AfterCommit(Arc::new(error)))?;
    }
    let fate = |new: &NewRecord| {
        if stored.contains(&new.id) {
            return Ok(Accepted::New(new.pending(now)));
        }
        let key = (new.account_id, new.key.as_str().to_owned());
        let (record, hash) = taken.get(&key).ok_or(StoreError::MissingRecord)?;
        if *hash == new.request_hash() {
            record.clone().map(Accepted::Replayed)
        } else {
            Ok(Accepted::KeyReused)
        }
    };
    Ok(new.iter().map(fate).collect())
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
    let now = now();
    let mut transaction = pool.begin().await?;
    // Short: this batch is taken apart because of a lock.
    sqlx::query!("SET LOCAL lock_timeout = '100ms'").execute(&mut *transaction).await?;
    let stored = insert_or_skip(&mut *transaction, &Columns::new(new, traces), now).await?;
    transaction.commit().await?;
    accepted(pool, new, stored, now).await
}

/// Fails if a key is taken.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn insert_or_fail(pool: &PgPool, new: &Columns<'_>, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency,
              traceparent, created_at, updated_at)
         SELECT *, $10, $10 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[],
                                        $6::text[], $7::numeric[], $8::text[], $9::text[])",
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
              traceparent, created_at, updated_at)
         SELECT *, $10, $10 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[],
                                        $6::text[], $7::numeric[], $8::text[], $9::text[])
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
    )
    .fetch_all(database)
    .await
}

/// New records as columns.
struct Columns<'a> {
    ids: Vec<Uuid>,
    account_ids: Vec<Uuid>,
    keys: Vec<&'a str>,
    hashes: Vec<Vec<u8>>,
    user_ids: Vec<&'a str>,
    kinds: Vec<&'a str>,
    amounts: Vec<Decimal>,
    currencies: Vec<&'a str>,
    /// Empty if no trace is recorded, which is the usual and the cheapest case: the statement reads
    /// missing values as NULL.
    traceparents: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    /// Sorted by account and key, so that replicas that insert the same keys wait for
    /// each other instead of deadlocking.
    fn new(new: &'a [NewRecord], traces: &[Trace]) -> Self {
        let mut sorted: Vec<_> = new.iter().zip(traces).collect();
        sorted.sort_by_key(|(record, _)| (record.account_id, record.key.as_str()));
        let (new, traces): (Vec<&NewRecord>, Vec<&Trace>) = sorted.into_iter().unzip();
        let traceparent = |trace: &&Trace| trace.is_recorded().then(|| trace.traceparent());
        let recorded = traces.iter().any(|trace| trace.is_recorded());
        Self {
            traceparents: traces.iter().filter(|_| recorded).map(traceparent).collect(),
            ids: new.iter().map(|record| record.id.as_uuid()).collect(),
            account_ids: new.iter().map(|record| record.account_id.as_uuid()).collect(),
            keys: new.iter().map(|record| record.key.as_str()).collect(),
            hashes: new.iter().map(|record| record.request_hash().to_vec()).collect(),
            user_ids: new.iter().map(|record| record.user_id.as_str()).collect(),
            kinds: new.iter().map(|record| record.kind.as_str()).collect(),
            amounts: new.iter().map(|record| record.amount.as_decimal()).collect(),
            currencies: new.iter().map(|record| record.currency.code()).collect(),
        }
    }
}

/// The record with a taken key, and the hash of its request.
type Taken = (Result<Record, StoreError>, Vec<u8>);

/// The records with these accounts and keys.
async fn find_by_keys(
    pool: &PgPool,
    records: impl Iterator<Item = &NewRecord> + Clone,
) -> Result<HashMap<(AccountId, String), Taken>, StoreError> {
    let rows = sqlx::query!(
        "SELECT r.id, r.account_id, r.idempotency_key, r.request_hash, r.user_id, r.type AS kind,
                r.amount, r.currency, r.transaction_id, r.reason, r.balance_after, r.account_seq,
                r.created_at, r.updated_at
         FROM unnest($1::uuid[], $2::text[]) AS taken (account_id, idempotency_key)
              JOIN transaction_records AS r USING (account_id, idempotency_key)",
        &records.clone().map(|record| record.account_id.as_uuid()).collect::<Vec<_>>(),
        &records.map(|record| record.key.as_str().to_owned()).collect::<Vec<_>>(),
    )
    .fetch_all(pool)
    .await?;
    let taken = rows.into_iter().map(|row| {
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
            idempotency_key: row.idempotency_key.clone(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        let key = (AccountId::from_uuid(row.account_id), row.idempotency_key);
        (key, (record.try_into(), row.request_hash))
    });
    Ok(taken.collect())
}
