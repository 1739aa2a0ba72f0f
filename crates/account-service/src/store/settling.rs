//! Records settled, and the balances that go with them.
//!
//! Rows are locked in the order of their keys, so that replicas wait for each
//! other instead of deadlocking. A condition `id = ANY (ARRAY[…])` leaves but
//! one plan, whatever the statistics say: the keys one after the other, each
//! through the index. `IS NOT DISTINCT FROM` keeps the index on accounts out of
//! it, through which a record is one of many.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
};

use contract::{Balance, MovementResult, Outcome, Reason, RecordId};
use runtime::crash;
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool, types::Uuid};

use super::records::RecordRow;
use crate::record::{Contradiction, Effect, Record, Settlement};

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
/// Nearly every result is the only one of a PENDING record, so that a single
/// statement settles them unseen: its conditions are those of
/// [`Record::effect_of`]. What it leaves is read and judged.
///
/// # Errors
/// The database's; nothing was committed then.
pub async fn settle(pool: &PgPool, results: &[MovementResult]) -> sqlx::Result<Vec<Settling>> {
    let mut firsts: Vec<_> = results.iter().enumerate().collect();
    firsts.sort_by_key(|(at, result)| (result.record_id, *at));
    firsts.dedup_by_key(|(_, result)| result.record_id);
    let mut transaction = pool.begin().await?;
    let settled = settle_pending(&mut transaction, firsts.iter().map(|(_, it)| *it)).await?;
    let mut settling = vec![None; results.len()];
    for (at, result) in firsts {
        if settled.contains(&result.record_id.as_uuid())
            && let Some(settling) = settling.get_mut(at)
        {
            *settling = Some(Settling::Settled);
        }
    }
    if settling.contains(&None) {
        judge(&mut transaction, results, &mut settling).await?;
    }
    let changed: Vec<_> = results
        .iter()
        .zip(&settling)
        .filter_map(|(result, settling)| (*settling == Some(Settling::Settled)).then_some(result))
        .collect();
    if !changed.is_empty() {
        crash::point("settle.records-written", &results);
        project_balances(&mut transaction, &changed).await?;
        crash::point("settle.balances-projected", &results);
    }
    transaction.commit().await?;
    crash::point("settle.committed", &results);
    Ok(settling.into_iter().map(|it| it.unwrap_or(Settling::Unknown)).collect())
}

/// Settles the records that are PENDING and ask for what was decided. Gives
/// their ids.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn settle_pending(
    connection: &mut PgConnection,
    results: impl Iterator<Item = &MovementResult> + Clone,
) -> sqlx::Result<HashSet<Uuid>> {
    let ends = || results.clone().map(|result| Settlement::from(result).end);
    let settled = sqlx::query_scalar!(
        "UPDATE transaction_records AS r
         SET status = CASE WHEN told.reason IS NULL THEN 'SUCCESS' ELSE 'FAILED' END,
             transaction_id = told.transaction_id, reason = told.reason,
             balance_after = told.balance_after, updated_at = greatest(now(), r.created_at)
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[], $6::bigint[],
                     $7::text[], $8::numeric[])
             AS told (id, account_id, type, amount, currency, transaction_id, reason, balance_after)
         WHERE r.id = ANY (ARRAY[told.id]) AND r.status = 'PENDING'
             AND r.account_id IS NOT DISTINCT FROM told.account_id
             AND r.type = told.type AND r.amount = told.amount AND r.currency = told.currency
         RETURNING r.id",
        &results.clone().map(|it| it.record_id.as_uuid()).collect::<Vec<_>>(),
        &results.clone().map(|it| it.account_id.as_uuid()).collect::<Vec<_>>(),
        &results.clone().map(|it| it.kind.as_str()).collect::<Vec<_>>() as &[&str],
        &results.clone().map(|it| it.amount.as_decimal()).collect::<Vec<_>>(),
        &results.clone().map(|it| it.currency.code()).collect::<Vec<_>>() as &[&str],
        &results.clone().map(|it| it.transaction_id).collect::<Vec<_>>(),
        &ends().map(|end| end.err().map(Reason::as_str)).collect::<Vec<_>>() as &[Option<&str>],
        &ends().map(|end| end.ok().map(Balance::as_decimal)).collect::<Vec<_>>()
            as &[Option<Decimal>],
    )
    .fetch_all(connection)
    .await?;
    Ok(settled.into_iter().collect())
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
    let mut changed = Vec::new();
    for (result, settling) in left {
        let Some(record) = records.get_mut(&result.record_id) else {
            *settling = Some(Settling::Unknown);
            continue;
        };
        *settling = Some(match record.effect_of(result) {
            Effect::None => Settling::Already,
            Effect::Contradicts(contradiction) => Settling::Refused(contradiction),
            Effect::Settles(settlement) => {
                record.settlement = Some(settlement);
                changed.push(result);
                Settling::Settled
            }
        });
    }
    if !changed.is_empty() {
        // They are locked, and what was asked of them holds.
        settle_pending(connection, changed.into_iter()).await?;
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

/// Moves the balances that are shown.
async fn project_balances(
    connection: &mut PgConnection,
    settled: &[&MovementResult],
) -> sqlx::Result<()> {
    let mut newest: Vec<_> = settled
        .iter()
        .filter_map(|result| match result.outcome {
            Outcome::Applied { balance_after, account_seq } => {
                Some((result.account_id, account_seq, balance_after))
            }
            Outcome::Refused(_) => None,
        })
        .collect();
    if newest.is_empty() {
        return Ok(());
    }
    // Sorted for the order of the locks; of each account, the last one first.
    newest.sort_by_key(|(account, seq, _)| (*account, Reverse(*seq)));
    newest.dedup_by_key(|(account, ..)| *account);
    // Results come in any order across replicas: only a newer number may move a balance.
    sqlx::query!(
        "UPDATE accounts SET balance = newest.balance, account_seq = newest.seq, updated_at = now()
         FROM unnest($1::uuid[], $2::bigint[], $3::numeric[]) AS newest (account_id, seq, balance)
         WHERE accounts.account_id = ANY (ARRAY[newest.account_id])
             AND accounts.account_seq < newest.seq",
        &newest.iter().map(|(account, ..)| account.as_uuid()).collect::<Vec<_>>(),
        &newest.iter().map(|(_, seq, _)| *seq).collect::<Vec<_>>(),
        &newest.iter().map(|(.., balance)| balance.as_decimal()).collect::<Vec<_>>(),
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
