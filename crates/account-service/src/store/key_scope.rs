//! Idempotency keys belong to an account and a caller.
//!
//! The column has one row for an account and a key. The first caller of a key has that row. Any
//! other caller's row has the key, a space and the caller instead. Neither keys nor callers have
//! spaces, so both parts are found again.
//!
//! Such a row is inserted only while the row of the first caller exists, and that row is never
//! removed. So a caller has at most one row under a key. Releases before this rule look for the
//! first row only. While one of them runs beside this one, it answers a second caller as before,
//! with the first one's record or 422: nothing is booked twice. The alternative, a unique index
//! over account, key and caller, would need a release in between, because those releases insert
//! by the narrower one.

use std::collections::{HashMap, HashSet};

use contract::{AccountId, RecordId, UserId};
use runtime::{http::idempotency_key::IdempotencyKey, postgres::PgPool};
use sqlx::types::Uuid;
use time::OffsetDateTime;

use super::{
    StoreError,
    columns::Columns,
    insert::{Traced, begin_unlocked},
    records::RecordRow,
};
use crate::record::{NewRecord, Record};

/// A caller's key on an account.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnKey {
    account: AccountId,
    caller: String,
    key: String,
}

impl OwnKey {
    pub(super) fn of(record: &NewRecord) -> Self {
        Self {
            account: record.account_id,
            caller: record.user_id.as_str().to_owned(),
            key: record.key.as_str().to_owned(),
        }
    }
}

/// The stored record of a taken key, and the hash of its request.
type Taken = (Result<Record, StoreError>, Vec<u8>);

/// What became of records whose keys are in the column already.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// The records that were inserted beside those of other callers.
    pub(super) inserted: Vec<Uuid>,
    /// The stored records of the same callers.
    pub(super) taken: HashMap<OwnKey, Taken>,
    /// Why the other ones were not inserted.
    pub(super) failure: Option<StoreError>,
}

/// Finds the stored records of the same callers, and inserts the others' beside those that have
/// their keys. The inserted ones are committed when this returns.
///
/// # Errors
/// [`StoreError`], if the stored records can't be read. Some records may have been inserted.
pub(super) async fn resolve(
    pool: &PgPool,
    skipped: Vec<Traced<'_>>,
    now: OffsetDateTime,
) -> Result<Resolved, StoreError> {
    let taken = find_own(pool, skipped.iter().map(|(record, _)| *record)).await?;
    let mut resolved = Resolved { taken, ..Resolved::default() };
    let unknown = |(record, _): &Traced<'_>| !resolved.taken.contains_key(&OwnKey::of(record));
    let beside: Vec<_> = skipped.into_iter().filter(unknown).collect();
    if beside.is_empty() {
        return Ok(resolved);
    }
    match insert_beside(pool, &Columns::new(beside.iter().copied()), now).await {
        Ok(inserted) => resolved.inserted = inserted,
        Err(error) => {
            resolved.failure = Some(error);
            return Ok(resolved);
        }
    }
    if resolved.inserted.len() < beside.len() {
        // The same request arrived twice.
        let inserted: HashSet<_> =
            resolved.inserted.iter().copied().map(RecordId::from_uuid).collect();
        let records = beside.iter().map(|(record, _)| *record);
        let skipped = records.filter(|record| !inserted.contains(&record.id));
        resolved.taken.extend(find_own(pool, skipped).await?);
    }
    Ok(resolved)
}

/// Inserts records whose keys other callers have. Returns the ids of the inserted ones: the
/// first of each caller.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn insert_beside(
    pool: &PgPool,
    new: &Columns<'_>,
    now: OffsetDateTime,
) -> Result<Vec<Uuid>, StoreError> {
    let mut transaction = begin_unlocked(pool).await?;
    let inserted = sqlx::query_scalar!(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency,
              traceparent, created_at, updated_at, reference, description, metadata, api_key_id)
         SELECT id, account_id, key || ' ' || user_id, request_hash, user_id, type, amount, currency,
             traceparent, $10, $10, reference, description, metadata::jsonb, api_key_id
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[],
                     $6::text[], $7::numeric[], $8::text[], $9::text[],
                     $11::text[], $12::text[], $13::text[], $14::uuid[])
             AS new (id, account_id, key, request_hash, user_id, type, amount, currency, traceparent,
                     reference, description, metadata, api_key_id)
         WHERE (SELECT user_id FROM transaction_records AS first
                WHERE first.account_id = new.account_id AND first.idempotency_key = new.key)
               <> new.user_id
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
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(inserted)
}

/// The stored records with these accounts, keys and callers. Each key is
/// two look-ups by the unique index: the migration `set_number_of_accounts` keeps the planner from
/// reading all records of an account instead.
async fn find_own<'a>(
    pool: &PgPool,
    records: impl Iterator<Item = &'a NewRecord> + Clone,
) -> Result<HashMap<OwnKey, Taken>, StoreError> {
    let rows = sqlx::query!(
        "SELECT r.id, r.account_id, r.idempotency_key, r.request_hash, r.user_id, r.type AS kind,
                r.amount, r.currency, r.transaction_id, r.reason, r.balance_after, r.account_seq,
                r.reference, r.description, r.metadata::text AS metadata, r.api_key_id, r.created_at,
                r.updated_at
         FROM unnest($1::uuid[], $2::text[], $3::text[]) AS own (account_id, key, user_id)
              CROSS JOIN LATERAL (VALUES (own.key), (own.key || ' ' || own.user_id)) AS stored (key)
              CROSS JOIN LATERAL (SELECT * FROM transaction_records
                                  WHERE account_id = own.account_id
                                      AND idempotency_key = stored.key LIMIT 1) AS r
         WHERE r.user_id = own.user_id",
        &records.clone().map(|record| record.account_id.as_uuid()).collect::<Vec<_>>(),
        &records.clone().map(|record| record.key.as_str().to_owned()).collect::<Vec<_>>(),
        &records.map(|record| record.user_id.as_str().to_owned()).collect::<Vec<_>>(),
    )
    .fetch_all(pool)
    .await?;
    let taken = rows.into_iter().map(|row| {
        let key = OwnKey {
            account: AccountId::from_uuid(row.account_id),
            caller: row.user_id.clone(),
            key: unscoped(row.idempotency_key.clone()),
        };
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
        (key, (record.try_into(), row.request_hash))
    });
    Ok(taken.collect())
}

/// The key in the column, if another caller has the key itself.
pub(super) fn scoped(key: &IdempotencyKey, caller: &UserId) -> String {
    format!("{} {caller}", key.as_str())
}

/// The key as its caller chose it.
pub(super) fn unscoped(mut stored: String) -> String {
    stored.truncate(stored.find(' ').unwrap_or(stored.len()));
    stored
}
