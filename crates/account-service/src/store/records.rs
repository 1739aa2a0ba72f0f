//! Records: accepted, found and listed.

use std::collections::{HashMap, HashSet};

use contract::{AccountId, Amount, Balance, Currency, Kind, Reason, RecordId, UserId};
use rust_decimal::Decimal;
use sqlx::{PgExecutor, PgPool, types::Uuid};
use time::OffsetDateTime;

use super::unreadable;
use crate::record::{NewRecord, Record, Settlement};

pub(super) struct RecordRow {
    pub(super) id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) user_id: String,
    pub(super) kind: String,
    pub(super) amount: Decimal,
    pub(super) currency: String,
    pub(super) transaction_id: Option<i64>,
    pub(super) reason: Option<String>,
    pub(super) balance_after: Option<Decimal>,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
}

impl TryFrom<RecordRow> for Record {
    type Error = sqlx::Error;

    fn try_from(row: RecordRow) -> Result<Self, sqlx::Error> {
        let odd = || unreadable(&format!("record {}", row.id));
        let currency = Currency::parse(&row.currency).map_err(|_| odd())?;
        let end = match (&row.reason, row.balance_after) {
            (None, Some(balance)) => {
                Some(Ok(Balance::from_decimal(balance, currency).ok_or_else(odd)?))
            }
            (Some(name), None) => Some(Err(Reason::parse(name).ok_or_else(odd)?)),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(odd()),
        };
        let settlement = match (row.transaction_id, end) {
            (Some(transaction_id), Some(end)) => Some(Settlement { transaction_id, end }),
            (None, None) => None,
            _ => return Err(odd()),
        };
        Ok(Self {
            id: RecordId::from_uuid(row.id),
            account_id: AccountId::from_uuid(row.account_id),
            user_id: row.user_id.clone().try_into().map_err(|_| odd())?,
            kind: Kind::parse(&row.kind).ok_or_else(odd)?,
            amount: Amount::from_decimal(row.amount, currency).map_err(|_| odd())?,
            currency,
            settlement,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

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

/// Stores records, each unless its key is taken. Committed when this returns.
/// Gives what became of each, in their order.
///
/// # Errors
/// The database's. After an error the records may be stored all the same (if
/// the connection broke during the commit): their keys find them.
pub async fn accept(pool: &PgPool, new: &[NewRecord]) -> sqlx::Result<Vec<Accepted>> {
    // By this service's clock, as the ids are. A column keeps microseconds.
    let now = OffsetDateTime::now_utc();
    let now = now.replace_microsecond(now.microsecond()).unwrap_or(now);
    let stored = insert(pool, new, now).await?;
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

/// Gives those that were not stored before.
async fn insert(
    pool: &PgPool,
    new: &[NewRecord],
    now: OffsetDateTime,
) -> sqlx::Result<HashSet<RecordId>> {
    // In the order of their keys: replicas that take the same ones wait for each other instead of
    // deadlocking.
    let mut new: Vec<_> = new.iter().collect();
    new.sort_unstable_by_key(|record| (record.account_id, record.key.as_str()));
    let column = |text: fn(&NewRecord) -> &str| {
        new.iter().map(|record| text(record).to_owned()).collect::<Vec<_>>()
    };
    let stored = sqlx::query_scalar!(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency,
              created_at, updated_at)
         SELECT *, $9, $9 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[],
                                      $6::text[], $7::numeric[], $8::text[])
         ON CONFLICT (account_id, idempotency_key) DO NOTHING
         RETURNING id",
        &new.iter().map(|it| it.id.as_uuid()).collect::<Vec<_>>(),
        &new.iter().map(|it| it.account_id.as_uuid()).collect::<Vec<_>>(),
        &column(|it| it.key.as_str()),
        &new.iter().map(|it| it.request_hash().to_vec()).collect::<Vec<_>>(),
        &column(|it| it.user_id.as_str()),
        &column(|it| it.kind.as_str()),
        &new.iter().map(|it| it.amount.as_decimal()).collect::<Vec<_>>(),
        &column(|it| it.currency.code()),
        now,
    )
    .fetch_all(pool)
    .await?;
    Ok(stored.into_iter().map(RecordId::from_uuid).collect())
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

/// The record with this id, and the owner of its account.
///
/// # Errors
/// The database's.
pub async fn find_record(
    database: impl PgExecutor<'_>,
    id: RecordId,
) -> sqlx::Result<Option<(Record, UserId)>> {
    let row = sqlx::query!(
        "SELECT r.id, r.account_id, r.user_id, r.type AS kind, r.amount, r.currency,
                r.transaction_id, r.reason, r.balance_after, r.created_at, r.updated_at, a.owner_id
         FROM transaction_records r JOIN accounts a USING (account_id) WHERE r.id = $1",
        id.as_uuid(),
    )
    .fetch_optional(database)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let owner = UserId::try_from(row.owner_id).map_err(|_| unreadable("an account's owner"))?;
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
    Ok(Some((record.try_into()?, owner)))
}

/// An account's records, newest first, that are older than `before`.
///
/// # Errors
/// The database's.
pub async fn list_records(
    database: impl PgExecutor<'_>,
    account: AccountId,
    before: Option<RecordId>,
    limit: u16,
) -> sqlx::Result<Vec<Record>> {
    let before = before.map_or(Uuid::max(), RecordId::as_uuid);
    sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, created_at, updated_at
         FROM transaction_records WHERE account_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        account.as_uuid(),
        before,
        i64::from(limit),
    )
    .fetch_all(database)
    .await?
    .into_iter()
    .map(Record::try_from)
    .collect()
}
