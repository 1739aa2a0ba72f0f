//! Records: accepted, settled, listed, and found again when they stay PENDING.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::{
    AccountId, Amount, Balance, Currency, Kind, MovementResult, Outcome, Reason, RecordId, UserId,
};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgExecutor, PgPool, types::Uuid};
use time::OffsetDateTime;

use super::unreadable;
use crate::record::{Contradiction, Effect, NewRecord, Record, Settlement};

struct RecordRow {
    id: Uuid,
    account_id: Uuid,
    user_id: String,
    kind: String,
    amount: Decimal,
    currency: String,
    transaction_id: Option<i64>,
    reason: Option<String>,
    balance_after: Option<Decimal>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
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

/// Stores a record, unless its key is taken. Committed when this returns.
///
/// # Errors
/// The database's. After an error the record may be stored all the same (if
/// the connection broke during the commit): the same key finds it.
pub async fn accept(pool: &PgPool, new: &NewRecord) -> sqlx::Result<Accepted> {
    let hash = new.request_hash();
    let inserted = sqlx::query!(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (account_id, idempotency_key) DO NOTHING
         RETURNING created_at",
        new.id.as_uuid(),
        new.account_id.as_uuid(),
        new.key.as_str(),
        hash.as_slice(),
        new.user_id.as_str(),
        new.kind.as_str(),
        new.amount.as_decimal(),
        new.currency.code(),
    )
    .fetch_optional(pool)
    .await?;
    if let Some(row) = inserted {
        return Ok(Accepted::New(Record {
            id: new.id,
            account_id: new.account_id,
            user_id: new.user_id.clone(),
            kind: new.kind,
            amount: new.amount,
            currency: new.currency,
            settlement: None,
            created_at: row.created_at,
            updated_at: row.created_at,
        }));
    }
    let taken = sqlx::query!(
        "SELECT id, request_hash FROM transaction_records
         WHERE account_id = $1 AND idempotency_key = $2",
        new.account_id.as_uuid(),
        new.key.as_str(),
    )
    .fetch_one(pool)
    .await?;
    if taken.request_hash != hash {
        return Ok(Accepted::KeyReused);
    }
    let record = find_record(pool, RecordId::from_uuid(taken.id)).await?;
    record.map(|(record, _)| Accepted::Replayed(record)).ok_or(sqlx::Error::RowNotFound)
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

/// What a result did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    /// Its record is settled now.
    Settled,
    /// Its record was settled before, with the same outcome.
    Already,
    /// It contradicts its record.
    Refused(Contradiction),
    /// There is no such record.
    Unknown,
}

/// Lets PENDING records take their outcomes and accounts their new balances,
/// in one transaction. Gives what became of each result, in their order.
///
/// # Errors
/// The database's; nothing was committed then.
pub async fn settle(pool: &PgPool, results: &[MovementResult]) -> sqlx::Result<Vec<Settling>> {
    let mut transaction = pool.begin().await?;
    let mut records = lock_records(&mut transaction, results).await?;
    let mut settling = Vec::with_capacity(results.len());
    let mut changed = Vec::new();
    let mut balances: BTreeMap<AccountId, (i64, Balance)> = BTreeMap::new();
    for result in results {
        let Some(record) = records.get_mut(&result.record_id) else {
            settling.push(Settling::Unknown);
            continue;
        };
        settling.push(match record.effect_of(result) {
            Effect::None => Settling::Already,
            Effect::Contradicts(contradiction) => Settling::Refused(contradiction),
            Effect::Settles(settlement) => {
                record.settlement = Some(settlement);
                changed.push((result.record_id, settlement));
                if let Outcome::Applied { balance_after, account_seq } = result.outcome {
                    let newest = balances.entry(result.account_id).or_insert((0, balance_after));
                    *newest = (*newest).max((account_seq, balance_after));
                }
                Settling::Settled
            }
        });
    }
    if !changed.is_empty() {
        write_settlements(&mut transaction, &changed).await?;
        project_balances(&mut transaction, &balances).await?;
    }
    transaction.commit().await?;
    Ok(settling)
}

async fn lock_records(
    connection: &mut PgConnection,
    results: &[MovementResult],
) -> sqlx::Result<BTreeMap<RecordId, Record>> {
    let ids: BTreeSet<Uuid> = results.iter().map(|result| result.record_id.as_uuid()).collect();
    // In the order of their ids, so that replicas wait for each other instead of deadlocking.
    sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, created_at, updated_at
         FROM transaction_records WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
        &Vec::from_iter(ids),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Record::try_from(row).map(|record| (record.id, record)))
    .collect()
}

#[expect(clippy::as_conversions, reason = "sqlx takes the type of a nullable array this way")]
async fn write_settlements(
    connection: &mut PgConnection,
    changed: &[(RecordId, Settlement)],
) -> sqlx::Result<()> {
    let ends = || changed.iter().map(|(_, settlement)| settlement.end);
    let status = |end: Result<_, _>| if end.is_ok() { "SUCCESS" } else { "FAILED" }.to_owned();
    sqlx::query!(
        "UPDATE transaction_records AS r
         SET status = s.status, transaction_id = s.transaction_id, reason = s.reason,
             balance_after = s.balance_after, updated_at = now()
         FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::numeric[])
             AS s (id, status, transaction_id, reason, balance_after)
         WHERE r.id = s.id AND r.status = 'PENDING'",
        &changed.iter().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>(),
        &ends().map(status).collect::<Vec<_>>(),
        &changed.iter().map(|(_, settlement)| settlement.transaction_id).collect::<Vec<_>>(),
        &ends().map(|end| end.err().map(|it| it.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &ends().map(|end| end.ok().map(Balance::as_decimal)).collect::<Vec<_>>()
            as &[Option<Decimal>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn project_balances(
    connection: &mut PgConnection,
    balances: &BTreeMap<AccountId, (i64, Balance)>,
) -> sqlx::Result<()> {
    // Results come in any order across replicas: only a newer number may move a balance.
    sqlx::query!(
        "UPDATE accounts SET balance = newer.balance, account_seq = newer.seq, updated_at = now()
         FROM (
             SELECT a.account_id, told.balance, told.seq
             FROM accounts a JOIN unnest($1::uuid[], $2::bigint[], $3::numeric[])
                 AS told (account_id, seq, balance) USING (account_id)
             WHERE a.account_seq < told.seq
             ORDER BY a.account_id FOR NO KEY UPDATE OF a
         ) AS newer
         WHERE accounts.account_id = newer.account_id AND accounts.account_seq < newer.seq",
        &balances.keys().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &balances.values().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        &balances.values().map(|(_, balance)| balance.as_decimal()).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Which of these records are settled.
///
/// # Errors
/// The database's.
pub async fn settled_among(pool: &PgPool, records: &[RecordId]) -> sqlx::Result<Vec<RecordId>> {
    let ids: Vec<_> = records.iter().map(|id| id.as_uuid()).collect();
    let settled = sqlx::query_scalar!(
        "SELECT id FROM transaction_records WHERE id = ANY($1) AND status <> 'PENDING'",
        &ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(settled.into_iter().map(RecordId::from_uuid).collect())
}

/// What a look at a part of the records found.
#[derive(Debug)]
pub struct Pending {
    /// The PENDING ones in it, oldest first, at most as many as asked for.
    pub records: Vec<RecordId>,
    /// Where the part ended; `None` if it was the last.
    pub next: Option<RecordId>,
}

/// Looks at the next `most` records with ids in `from..until`, whatever their
/// status, so that a look costs the same whatever the history. Finds up to
/// `limit` PENDING ones.
///
/// # Errors
/// The database's.
pub async fn find_pending(
    pool: &PgPool,
    from: RecordId,
    until: RecordId,
    most: u32,
    limit: u16,
) -> sqlx::Result<Pending> {
    let looked = sqlx::query!(
        r#"WITH part AS MATERIALIZED (
               SELECT id, status FROM transaction_records WHERE id >= $1 AND id < $2
               ORDER BY id LIMIT $3
           )
           SELECT
               (SELECT id FROM part ORDER BY id DESC LIMIT 1) AS last,
               (SELECT count(*) FROM part) AS "count!",
               ARRAY(SELECT id FROM part WHERE status = 'PENDING' ORDER BY id LIMIT $4)
                   AS "pending!""#,
        from.as_uuid(),
        until.as_uuid(),
        i64::from(most),
        i64::from(limit),
    )
    .fetch_one(pool)
    .await?;
    let records: Vec<_> = looked.pending.into_iter().map(RecordId::from_uuid).collect();
    // Cut short by `limit`, the next look goes on after the last one found.
    let full = records.len() >= usize::from(limit);
    let end = if full { records.last().copied() } else { looked.last.map(RecordId::from_uuid) };
    let more = full || looked.count >= i64::from(most);
    Ok(Pending { records, next: end.filter(|_| more).map(RecordId::next) })
}

/// Takes those of these records that are PENDING and due to be sent again, and
/// puts off their next turn: `first`, then twice as long each time, up to ten
/// minutes, with jitter. Replicas that ask at the same time get different
/// ones. Gives each with the number of its attempt.
///
/// # Errors
/// The database's.
pub async fn claim_for_redrive(
    pool: &PgPool,
    records: &[RecordId],
    first: Duration,
) -> sqlx::Result<Vec<(Record, i32)>> {
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
         WHERE r.id = due.id
         RETURNING r.id, r.account_id, r.user_id, r.type AS kind, r.amount, r.currency,
                   r.transaction_id, r.reason, r.balance_after, r.created_at, r.updated_at, r.redrives",
        &ids,
        first.as_secs_f64(),
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
            Ok((record.try_into()?, row.redrives))
        })
        .collect()
}
