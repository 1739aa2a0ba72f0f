//! Records settled, and the balances that go with them.
//!
//! Rows are locked in the order of their keys, so that replicas wait for each
//! other instead of deadlocking. A condition `id = ANY (ARRAY[…])` leaves but
//! one plan, whatever the statistics say: the keys one after the other, each
//! through the index. `IS NOT DISTINCT FROM` keeps the index on accounts out of
//! it, through which a record is one of many.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use contract::{Balance, MovementResult, Outcome, Reason, RecordId};
use runtime::crash;
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgExecutor, PgPool, types::Uuid};
use time::OffsetDateTime;

use super::records::RecordRow;
use crate::record::{Contradiction, Effect, Record, Settlement};

/// What a result did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    /// Its record is settled now.
    Settled(Times),
    /// Its record was settled before, with the same outcome.
    Already,
    /// It contradicts its record.
    Refused(Contradiction),
    /// There is no such record.
    Unknown,
}

/// When a record was accepted, by the clock of the service that did it, and
/// settled, by the database's; in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Accepted.
    pub accepted: OffsetDateTime,
    /// Settled.
    pub settled: OffsetDateTime,
}

/// Lets PENDING records take their outcomes and accounts their new balances.
/// Gives what became of each result, in their order, and of those that settled
/// their record, when.
///
/// Nearly every result is the only one of a PENDING record, so that a single
/// statement settles them unseen: its conditions are those of
/// [`Record::effect_of`]. What it leaves is read and judged.
///
/// # Errors
/// The database's. Some may be settled all the same then: brought again, their
/// results are [`Settling::Already`], and whoever waits hears of it by looking.
pub async fn settle(pool: &PgPool, results: &[MovementResult]) -> sqlx::Result<Vec<Settling>> {
    let mut firsts: Vec<_> = results.iter().enumerate().collect();
    firsts.sort_by_key(|(at, result)| (result.record_id, *at));
    firsts.dedup_by_key(|(_, result)| result.record_id);
    let settled = settle_pending(pool, firsts.iter().map(|(_, it)| *it)).await?;
    let mut settling = vec![None; results.len()];
    for (at, result) in firsts {
        if let Some(times) = settled.get(&result.record_id.as_uuid())
            && let Some(settling) = settling.get_mut(at)
        {
            *settling = Some(Settling::Settled(*times));
        }
    }
    if settling.contains(&None) {
        crash::point("settle.unseen", &results);
        let mut transaction = pool.begin().await?;
        judge(&mut transaction, results, &mut settling).await?;
        crash::point("settle.judged", &results);
        transaction.commit().await?;
    }
    crash::point("settle.committed", &results);
    Ok(settling.into_iter().map(|it| it.unwrap_or(Settling::Unknown)).collect())
}

/// Settles the records that are PENDING and ask for what was decided, and moves
/// the balances that are shown. Gives their times by the records' ids.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn settle_pending(
    database: impl PgExecutor<'_>,
    results: impl Iterator<Item = &MovementResult> + Clone,
) -> sqlx::Result<HashMap<Uuid, Times>> {
    let ends = || results.clone().map(|result| Settlement::from(result).end);
    // Results come in any order across replicas: only a newer number may move a balance. To be
    // sorted, all records are settled before the first account is locked.
    let settled = sqlx::query!(
        "WITH settled AS (
             UPDATE transaction_records AS r
             SET status = CASE WHEN told.reason IS NULL THEN 'SUCCESS' ELSE 'FAILED' END,
                 transaction_id = told.transaction_id, reason = told.reason,
                 balance_after = told.balance_after, updated_at = greatest(now(), r.created_at)
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[],
                         $6::bigint[], $7::text[], $8::numeric[], $9::bigint[])
                 AS told (id, account_id, type, amount, currency, transaction_id, reason,
                          balance_after, account_seq)
             WHERE r.id = ANY (ARRAY[told.id]) AND r.status = 'PENDING'
                 AND r.account_id IS NOT DISTINCT FROM told.account_id
                 AND r.type = told.type AND r.amount = told.amount AND r.currency = told.currency
             RETURNING r.id, r.created_at, r.updated_at, told.account_id, told.account_seq, told.balance_after
         ), projected AS (
             UPDATE accounts
             SET balance = newest.balance_after, account_seq = newest.account_seq,
                 updated_at = now()
             FROM (SELECT DISTINCT ON (account_id) account_id, account_seq, balance_after
                   FROM settled WHERE account_seq IS NOT NULL
                   ORDER BY account_id, account_seq DESC) AS newest
             WHERE accounts.account_id = ANY (ARRAY[newest.account_id])
                 AND accounts.account_seq < newest.account_seq
         )
         SELECT id, created_at, updated_at FROM settled",
        &results.clone().map(|it| it.record_id.as_uuid()).collect::<Vec<_>>(),
        &results.clone().map(|it| it.account_id.as_uuid()).collect::<Vec<_>>(),
        &results.clone().map(|it| it.kind.as_str()).collect::<Vec<_>>() as &[&str],
        &results.clone().map(|it| it.amount.as_decimal()).collect::<Vec<_>>(),
        &results.clone().map(|it| it.currency.code()).collect::<Vec<_>>() as &[&str],
        &results.clone().map(|it| it.transaction_id).collect::<Vec<_>>(),
        &ends().map(|end| end.err().map(Reason::as_str)).collect::<Vec<_>>() as &[Option<&str>],
        &ends().map(|end| end.ok().map(Balance::as_decimal)).collect::<Vec<_>>()
            as &[Option<Decimal>],
        &results.clone().map(|it| account_seq(it.outcome)).collect::<Vec<_>>() as &[Option<i64>],
    )
    .fetch_all(database)
    .await?;
    let times = settled
        .into_iter()
        .map(|row| (row.id, Times { accepted: row.created_at, settled: row.updated_at }));
    Ok(times.collect())
}

const fn account_seq(outcome: Outcome) -> Option<i64> {
    match outcome {
        Outcome::Applied { account_seq, .. } => Some(account_seq),
        Outcome::Refused(_) => None,
    }
}

/// Decides about the results that have not settled their records: each of them
/// repeats or contradicts what stands, or comes after such a one in its batch.
async fn judge(
    connection: &mut PgConnection,
    results: &[MovementResult],
    settling: &mut [Option<Settling>],
) -> sqlx::Result<()> {
    let left = results.iter().zip(settling).filter(|(_, settling)| settling.is_none());
    let left: Vec<_> = left.collect();
    let mut records = lock_records(connection, left.iter().map(|(result, _)| *result)).await?;
    let mut pending = Vec::new();
    for (result, settling) in left {
        let Some(record) = records.get_mut(&result.record_id) else {
            *settling = Some(Settling::Unknown);
            continue;
        };
        match record.effect_of(result) {
            Effect::None => *settling = Some(Settling::Already),
            Effect::Contradicts(contradiction) => {
                *settling = Some(Settling::Refused(contradiction));
            }
            Effect::Settles(settlement) => {
                record.settlement = Some(settlement);
                pending.push((result, settling));
            }
        }
    }
    if !pending.is_empty() {
        // They are locked, and what was asked of them holds.
        let pending_results = pending.iter().map(|(result, _)| *result);
        let settled = settle_pending(&mut *connection, pending_results).await?;
        for (result, settling) in pending {
            *settling = settled.get(&result.record_id.as_uuid()).copied().map(Settling::Settled);
        }
    }
    Ok(())
}

async fn lock_records(
    connection: &mut PgConnection,
    results: impl Iterator<Item = &MovementResult>,
) -> sqlx::Result<BTreeMap<RecordId, Record>> {
    let ids: BTreeSet<Uuid> = results.map(|result| result.record_id.as_uuid()).collect();
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
