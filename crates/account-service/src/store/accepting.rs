//! Records accepted: stored as PENDING, each unless its key is taken.

use std::collections::{HashMap, HashSet};

use contract::{AccountId, RecordId};
use runtime::trace::Trace;
use rust_decimal::Decimal;
use sqlx::{PgPool, types::Uuid};
use time::OffsetDateTime;

use super::records::RecordRow;
use crate::record::{NewRecord, Record};

/// What became of a request to accept a record.
#[derive(Debug)]
pub enum Accepted {
    /// It is stored, PENDING.
    New(Record),
    /// The same request was stored before under this key: its record.
    Replayed(Record),
    /// Another request was stored before under this key.
    KeyReused,
}

/// The constraint that a key is taken once in an account.
const KEYS: &str = "transaction_records_account_id_idempotency_key_key";

/// By this service's clock, as the ids are; in microseconds, as a column keeps
/// it.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}

/// Stores records, each with where its request is in its trace; all of them
/// or, if a key is taken, none. Committed when this returns. It takes the
/// database two thirds of the work of [`accept`].
///
/// # Errors
/// As [`accept`].
pub async fn accept_all(
    pool: &PgPool,
    new: &[NewRecord],
    traces: &[Trace],
) -> sqlx::Result<Option<Vec<Accepted>>> {
    let now = now();
    match insert_free(pool, &Columns::of(new, traces), now).await {
        Ok(()) => Ok(Some(new.iter().map(|record| Accepted::New(record.pending(now))).collect())),
        Err(sqlx::Error::Database(error)) if error.constraint() == Some(KEYS) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`accept_all`], each unless its key is taken. Committed when this returns.
/// Gives what became of each, in their order.
///
/// # Errors
/// The database's. After an error the records may be stored all the same (if
/// the connection broke during the commit): their keys find them.
pub async fn accept(
    pool: &PgPool,
    new: &[NewRecord],
    traces: &[Trace],
) -> sqlx::Result<Vec<Accepted>> {
    let now = now();
    let stored = insert_contested(pool, &Columns::of(new, traces), now).await?;
    let stored: HashSet<_> = stored.into_iter().map(RecordId::from_uuid).collect();
    let mut taken = HashMap::new();
    if stored.len() < new.len() {
        let taking = new.iter().filter(|record| !stored.contains(&record.id));
        taken = find_by_keys(pool, taking).await?;
    }
    let outcome = |new: &NewRecord| {
        if stored.contains(&new.id) {
            return Ok(Accepted::New(new.pending(now)));
        }
        let place = (new.account_id, new.key.as_str().to_owned());
        let (record, hash) = taken.get(&place).ok_or(sqlx::Error::RowNotFound)?;
        Ok(if *hash == new.request_hash() {
            Accepted::Replayed(record.clone())
        } else {
            Accepted::KeyReused
        })
    };
    new.iter().map(outcome).collect()
}

/// Fails if a key is taken.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn insert_free(pool: &PgPool, new: &Columns<'_>, now: OffsetDateTime) -> sqlx::Result<()> {
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

/// Leaves out keys that are taken, whoever else brings them at the same time.
/// Gives the others' ids.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn insert_contested(
    pool: &PgPool,
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
    .fetch_all(pool)
    .await
}

/// New records as a statement takes them.
struct Columns<'a> {
    ids: Vec<Uuid>,
    account_ids: Vec<Uuid>,
    keys: Vec<&'a str>,
    hashes: Vec<Vec<u8>>,
    user_ids: Vec<&'a str>,
    kinds: Vec<&'a str>,
    amounts: Vec<Decimal>,
    currencies: Vec<&'a str>,
    /// None at all if none is recorded, which is the usual case and costs the least: the statement
    /// takes what is missing as NULL.
    traceparents: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    /// In the order of their keys: replicas that take the same ones wait for
    /// each other instead of deadlocking.
    fn of(new: &'a [NewRecord], traces: &[Trace]) -> Self {
        let mut both: Vec<_> = new.iter().zip(traces).collect();
        both.sort_by_key(|(record, _)| (record.account_id, record.key.as_str()));
        let (new, traces): (Vec<&NewRecord>, Vec<&Trace>) = both.into_iter().unzip();
        let traceparent = |trace: &&Trace| trace.is_recorded().then(|| trace.traceparent());
        let recorded = traces.iter().any(|trace| trace.is_recorded());
        Self {
            traceparents: traces.iter().filter(|_| recorded).map(traceparent).collect(),
            ids: new.iter().map(|it| it.id.as_uuid()).collect(),
            account_ids: new.iter().map(|it| it.account_id.as_uuid()).collect(),
            keys: new.iter().map(|it| it.key.as_str()).collect(),
            hashes: new.iter().map(|it| it.request_hash().to_vec()).collect(),
            user_ids: new.iter().map(|it| it.user_id.as_str()).collect(),
            kinds: new.iter().map(|it| it.kind.as_str()).collect(),
            amounts: new.iter().map(|it| it.amount.as_decimal()).collect(),
            currencies: new.iter().map(|it| it.currency.code()).collect(),
        }
    }
}

/// The records under these accounts' keys, with the hashes of their requests.
async fn find_by_keys(
    pool: &PgPool,
    wanted: impl Iterator<Item = &NewRecord> + Clone,
) -> sqlx::Result<HashMap<(AccountId, String), (Record, Vec<u8>)>> {
    let rows = sqlx::query!(
        "SELECT r.id, r.account_id, r.idempotency_key, r.request_hash, r.user_id, r.type AS kind,
                r.amount, r.currency, r.transaction_id, r.reason, r.balance_after, r.created_at,
                r.updated_at
         FROM unnest($1::uuid[], $2::text[]) AS wanted (account_id, idempotency_key)
              JOIN transaction_records AS r USING (account_id, idempotency_key)",
        &wanted.clone().map(|it| it.account_id.as_uuid()).collect::<Vec<_>>(),
        &wanted.map(|it| it.key.as_str().to_owned()).collect::<Vec<_>>(),
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
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
            let place = (AccountId::from_uuid(row.account_id), row.idempotency_key);
            Ok((place, (record.try_into()?, row.request_hash)))
        })
        .collect()
}
