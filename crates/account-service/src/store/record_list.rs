//! Lists an account's records by filters, at a bounded cost.
//!
//! No index has `status`, because settling a record would then write to all indexes. A filter
//! without an index reads the account's records, newest first, up to [`MAX_SCANNED`] of them. If
//! the page is not full by then, it ends there and has a cursor all the same. Times are filtered
//! by the ids, whose order is that of the times, and then exactly.

use std::time::SystemTime;

use contract::{AccountId, Kind, RecordId, UserId};
use runtime::{http::idempotency_key::IdempotencyKey, postgres::PgPool};
use sqlx::types::Uuid;
use time::{Duration, OffsetDateTime};

use super::{StoreError, records::RecordRow};
use crate::{
    labels::Reference,
    record::{Record, Status},
};

/// Maximum records that a page reads. Their rows may be on as many pages of the disk.
const MAX_SCANNED: i64 = 5_000;
/// A record's id is made before it is accepted, by the same clock. The clock may be set, and the
/// record may wait in a queue in between. Records whose id and time differ by more are not found
/// by their time.
const SLACK: Duration = Duration::minutes(1);

/// Which of an account's records to list. `None` filters nothing.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    pub status: Option<Status>,
    pub kind: Option<Kind>,
    /// Accepted at this time or later.
    pub from: Option<OffsetDateTime>,
    /// Accepted before this time.
    pub to: Option<OffsetDateTime>,
    /// The caller who made the request.
    pub requested_by: Option<UserId>,
    /// With this reference, by an index.
    pub reference: Option<Reference>,
}

impl RecordFilter {
    /// Whether each record that is read passes the filter.
    const fn is_empty(&self) -> bool {
        let Self { status, kind, from, to, requested_by, reference: _ } = self;
        status.is_none()
            && kind.is_none()
            && from.is_none()
            && to.is_none()
            && requested_by.is_none()
    }
}

/// A part of a list.
#[derive(Debug, Default)]
pub struct Listing {
    /// Newest first.
    pub records: Vec<Record>,
    /// The last record that was read, if the list may go on after it although it has fewer
    /// records than the limit.
    pub read_to: Option<RecordId>,
}

/// An account's records older than `before`, newest first: `limit` of them, or fewer if the rest
/// of them is far away.
///
/// # Errors
/// [`StoreError`]
pub async fn list_records(
    pool: &PgPool,
    account: AccountId,
    filter: &RecordFilter,
    before: Option<RecordId>,
    limit: u16,
) -> Result<Listing, StoreError> {
    let ids = id_range(filter, before);
    // A reference has an index, so it leaves out no record that was read.
    let scanned = if filter.is_empty() { i64::from(limit) } else { MAX_SCANNED };
    let rows = match &filter.reference {
        None => scan(pool, account, filter, ids, (scanned, limit)).await?,
        Some(reference) => {
            scan_reference(pool, (account, reference), filter, ids, (scanned, limit)).await?
        }
    };
    let is_full = rows.len() >= usize::from(limit);
    let records = rows.into_iter().map(Record::try_from).collect::<Result<_, _>>()?;
    let mut listing = Listing { records, read_to: None };
    if !is_full && !filter.is_empty() {
        // Records that were inserted since the first statement move this one up. Those between
        // are read twice then, and none is left out.
        let last = last_scanned(pool, account, filter.reference.as_ref(), ids, scanned).await?;
        listing.read_to = last.map(RecordId::from_uuid);
    }
    Ok(listing)
}

/// The ids of records: from the first one up to, but without, the second one.
type IdRange = (Uuid, Uuid);

/// Reads up to `scanned` records, and returns up to `limit` of them that pass the filter.
async fn scan(
    pool: &PgPool,
    account: AccountId,
    filter: &RecordFilter,
    (floor, ceiling): IdRange,
    (scanned, limit): (i64, u16),
) -> sqlx::Result<Vec<RecordRow>> {
    sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, account_seq, idempotency_key, reference, description,
                metadata::text AS metadata, api_key_id, created_at, updated_at
         FROM (SELECT * FROM transaction_records
               WHERE account_id = $1 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4) AS scanned
         WHERE ($5::text IS NULL OR status = $5) AND ($6::text IS NULL OR type = $6)
             AND ($7::timestamptz IS NULL OR created_at >= $7)
             AND ($8::timestamptz IS NULL OR created_at < $8)
             AND ($9::text IS NULL OR user_id = $9)
         ORDER BY id DESC LIMIT $10",
        account.as_uuid(),
        floor,
        ceiling,
        scanned,
        filter.status.map(Status::as_str),
        filter.kind.map(Kind::as_str),
        filter.from,
        filter.to,
        filter.requested_by.as_ref().map(UserId::as_str),
        i64::from(limit),
    )
    .fetch_all(pool)
    .await
}

/// As [`scan`], by the index on references.
async fn scan_reference(
    pool: &PgPool,
    (account, reference): (AccountId, &Reference),
    filter: &RecordFilter,
    (floor, ceiling): IdRange,
    (scanned, limit): (i64, u16),
) -> sqlx::Result<Vec<RecordRow>> {
    sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, account_seq, idempotency_key, reference, description,
                metadata::text AS metadata, api_key_id, created_at, updated_at
         FROM (SELECT * FROM transaction_records
               WHERE account_id = $1 AND id >= $2 AND id < $3 AND reference = $11
               ORDER BY id DESC LIMIT $4) AS scanned
         WHERE ($5::text IS NULL OR status = $5) AND ($6::text IS NULL OR type = $6)
             AND ($7::timestamptz IS NULL OR created_at >= $7)
             AND ($8::timestamptz IS NULL OR created_at < $8)
             AND ($9::text IS NULL OR user_id = $9)
         ORDER BY id DESC LIMIT $10",
        account.as_uuid(),
        floor,
        ceiling,
        scanned,
        filter.status.map(Status::as_str),
        filter.kind.map(Kind::as_str),
        filter.from,
        filter.to,
        filter.requested_by.as_ref().map(UserId::as_str),
        i64::from(limit),
        reference.as_str(),
    )
    .fetch_all(pool)
    .await
}

/// The last of `scanned` records, if there are so many.
async fn last_scanned(
    pool: &PgPool,
    account: AccountId,
    reference: Option<&Reference>,
    (floor, ceiling): IdRange,
    scanned: i64,
) -> sqlx::Result<Option<Uuid>> {
    let (account, skipped) = (account.as_uuid(), scanned - 1);
    match reference {
        None => {
            sqlx::query_scalar!(
                "SELECT id FROM transaction_records WHERE account_id = $1 AND id >= $2 AND id < $3
                 ORDER BY id DESC OFFSET $4 LIMIT 1",
                account,
                floor,
                ceiling,
                skipped,
            )
            .fetch_optional(pool)
            .await
        }
        Some(reference) => {
            sqlx::query_scalar!(
                "SELECT id FROM transaction_records
                 WHERE account_id = $1 AND id >= $2 AND id < $3 AND reference = $5
                 ORDER BY id DESC OFFSET $4 LIMIT 1",
                account,
                floor,
                ceiling,
                skipped,
                reference.as_str(),
            )
            .fetch_optional(pool)
            .await
        }
    }
}

/// The ids of the records that the times allow, below `before`.
fn id_range(filter: &RecordFilter, before: Option<RecordId>) -> IdRange {
    let lowest_at = |time: OffsetDateTime| RecordId::lowest_at(SystemTime::from(time)).as_uuid();
    let floor = filter.from.and_then(|from| from.checked_sub(SLACK)).map(lowest_at);
    let ceiling = filter.to.and_then(|to| to.checked_add(SLACK)).map(lowest_at);
    let before = before.map_or(Uuid::max(), RecordId::as_uuid);
    (floor.unwrap_or_default(), ceiling.map_or(before, |ceiling| ceiling.min(before)))
}

/// The records of an account under a key: that of its first caller, and those of the `callers`.
/// Each key is one look-up by the unique index, and never a scan of the account.
///
/// # Errors
/// [`StoreError`]
pub async fn find_by_key(
    pool: &PgPool,
    account: AccountId,
    key: &IdempotencyKey,
    callers: &[&UserId],
    filter: &RecordFilter,
    before: Option<RecordId>,
) -> Result<Vec<Record>, StoreError> {
    let scoped = callers.iter().map(|caller| super::key_scope::scoped(key, caller));
    let keys: Vec<_> = scoped.chain([key.as_str().to_owned()]).collect();
    sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, account_seq, idempotency_key, reference, description,
                metadata::text AS metadata, api_key_id, created_at, updated_at
         FROM unnest($2::text[]) AS wanted (key)
              CROSS JOIN LATERAL (SELECT * FROM transaction_records
                                  WHERE account_id = $1 AND idempotency_key = wanted.key
                                  LIMIT 1) AS found
         WHERE id < $3 AND ($4::text IS NULL OR status = $4) AND ($5::text IS NULL OR type = $5)
             AND ($6::timestamptz IS NULL OR created_at >= $6)
             AND ($7::timestamptz IS NULL OR created_at < $7)
             AND ($8::text IS NULL OR user_id = $8) AND ($9::text IS NULL OR reference = $9)
         ORDER BY id DESC",
        account.as_uuid(),
        &keys,
        before.map_or(Uuid::max(), RecordId::as_uuid),
        filter.status.map(Status::as_str),
        filter.kind.map(Kind::as_str),
        filter.from,
        filter.to,
        filter.requested_by.as_ref().map(UserId::as_str),
        filter.reference.as_ref().map(Reference::as_str),
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(Record::try_from)
    .collect()
}
