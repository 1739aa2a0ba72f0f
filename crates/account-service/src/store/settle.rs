//! Settles records, moves the projected balances with them, and writes their events.
//!
//! Rows are locked in key order, so that replicas wait for each other instead of
//! deadlocking. The condition `id = ANY (ARRAY[…])` leaves the planner one plan,
//! whatever the statistics: one index scan per key, in key order. `IS NOT
//! DISTINCT FROM` keeps it from using the index on accounts, which would read all
//! records of an account.
//!
//! The row of an account has the number of its last event. It is locked until the commit, and the
//! position of an event is taken after that: so the positions of an account ascend with the
//! numbers, in the order of the commits. The migration `create_events` has the rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use contract::{Balance, Outcome, Reason, RecordId, TransactionResult};
use ledger::{Contradiction, Effect, Settlement, effect_of};
use runtime::failpoint;
use runtime::postgres::{PgPool, limited};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::{StoreError, records::RecordRow};
use crate::record::Record;

/// The effect of one result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleOutcome {
    /// The record is settled now.
    Settled(Times),
    /// The record was settled before, with the same outcome.
    SettledBefore,
    /// The result contradicts its record. Nothing changed.
    Contradicts(Contradiction),
    /// The record does not exist.
    NoRecord,
    /// Another transaction holds the row of the record or of its account. Nothing changed.
    Locked,
}

/// The times of a settled record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// By the clock of the replica that accepted the record.
    pub accepted: OffsetDateTime,
    /// By the clock of the database; never before `accepted`.
    pub settled: OffsetDateTime,
}

/// Settles PENDING records by their results, and moves the projected balances.
/// Returns one outcome per result, in their order.
///
/// Nearly every result is the only one of a PENDING record. One statement settles
/// these without reading them first: its conditions are those of [`effect_of`].
/// The remaining results are decided by [`effect_of`] itself.
///
/// # Errors
/// [`StoreError`]. Some records may still be settled. A redelivered result then gives
/// [`SettleOutcome::SettledBefore`], and the poll notifies the waiting clients.
pub async fn settle(
    pool: &PgPool,
    results: &[TransactionResult],
) -> Result<Vec<SettleOutcome>, StoreError> {
    let mut firsts: Vec<_> = results.iter().enumerate().collect();
    firsts.sort_by_key(|(at, result)| (result.record_id, *at));
    firsts.dedup_by_key(|(_, result)| result.record_id);
    let settled = settle_pending(pool, firsts.iter().map(|(_, result)| *result)).await?;
    let mut outcomes = vec![None; results.len()];
    for (at, result) in firsts {
        if let Some(times) = settled.get(&result.record_id.as_uuid())
            && let Some(outcome) = outcomes.get_mut(at)
        {
            *outcome = Some(SettleOutcome::Settled(*times));
        }
    }
    if outcomes.contains(&None) {
        failpoint::point("settle.unseen", &results);
        limited(async {
            let mut transaction = pool.begin().await?;
            settle_remaining(&mut transaction, results, &mut outcomes).await?;
            failpoint::point("settle.judged", &results);
            transaction.commit().await.map_err(StoreError::from)
        })
        .await??;
    }
    failpoint::point("settle.committed", &results);
    let outcomes = outcomes.into_iter();
    Ok(outcomes.map(|outcome| outcome.unwrap_or(SettleOutcome::NoRecord)).collect())
}

/// Settles the PENDING records whose movements are those of their results, moves the projected
/// balances and writes the events. Returns their times by record id.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
async fn settle_pending(
    database: impl PgExecutor<'_>,
    results: impl Iterator<Item = &TransactionResult> + Clone,
) -> sqlx::Result<HashMap<Uuid, Times>> {
    let settled_as = || results.clone().map(|result| Settlement::from(result).settled_as);
    // Results arrive in any order: only a higher `account_seq` moves a balance. The sort settles
    // all records before the first account is locked. The events of an account are in the order
    // of `account_seq`, then the refusals: one sort for all accounts costs less than one in each
    // aggregate. The last sort locks all accounts before the first position is taken.
    let settled = sqlx::query!(
        "WITH settled AS (
             UPDATE transaction_records AS r
             SET status = CASE WHEN result.reason IS NULL THEN 'SUCCESS' ELSE 'FAILED' END,
                 transaction_id = result.transaction_id, reason = result.reason,
                 balance_after = result.balance_after, account_seq = result.account_seq,
                 updated_at = greatest(now(), r.created_at), announced = true
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[],
                         $6::bigint[], $7::text[], $8::numeric[], $9::bigint[])
                 AS result (id, account_id, type, amount, currency, transaction_id, reason,
                          balance_after, account_seq)
             WHERE r.id = ANY (ARRAY[result.id]) AND r.status = 'PENDING'
                 AND r.account_id IS NOT DISTINCT FROM result.account_id
                 AND r.type = result.type AND r.amount = result.amount AND r.currency = result.currency
             RETURNING r.id, r.created_at, r.updated_at, result.account_id, r.account_seq, r.balance_after
         ), projected AS (
             UPDATE accounts
             SET balance = CASE WHEN accounts.account_seq < touched.account_seq
                     THEN touched.balances[touched.applied] ELSE accounts.balance END,
                 account_seq = greatest(accounts.account_seq, touched.account_seq),
                 updated_at = CASE WHEN accounts.account_seq < touched.account_seq
                     THEN now() ELSE accounts.updated_at END,
                 event_seq = accounts.event_seq + cardinality(touched.ids)
             FROM (SELECT account_id, max(account_seq) AS account_seq, count(account_seq) AS applied,
                       array_agg(id) AS ids, array_agg(balance_after) AS balances
                   FROM (SELECT account_id, account_seq, id, balance_after FROM settled
                         ORDER BY account_id, account_seq, id) AS sorted
                   GROUP BY account_id ORDER BY account_id) AS touched
             WHERE accounts.account_id = ANY (ARRAY[touched.account_id])
             RETURNING accounts.account_id, accounts.event_seq - cardinality(touched.ids) AS before,
                 touched.ids, touched.balances
         ), announced AS (
             INSERT INTO events (account_id, sequence, type, record_id, created_at)
             SELECT account_id, before + number, CASE WHEN balance IS NULL THEN 3 ELSE 2 END, id,
                 clock_timestamp()
             FROM (SELECT projected.account_id, before, number, id, balance
                   FROM projected, unnest(ids, balances) WITH ORDINALITY AS e (id, balance, number)
                   ORDER BY projected.account_id, number) AS numbered
         )
         SELECT id, created_at, updated_at FROM settled",
        &results.clone().map(|result| result.record_id.as_uuid()).collect::<Vec<_>>(),
        &results.clone().map(|result| result.account_id.as_uuid()).collect::<Vec<_>>(),
        &results.clone().map(|result| result.kind.as_str()).collect::<Vec<_>>() as &[&str],
        &results.clone().map(|result| result.amount.as_decimal()).collect::<Vec<_>>(),
        &results.clone().map(|result| result.currency.code()).collect::<Vec<_>>() as &[&str],
        &results.clone().map(|result| result.transaction_id).collect::<Vec<_>>(),
        &settled_as().map(|state| state.reason().map(Reason::as_str)).collect::<Vec<_>>()
            as &[Option<&str>],
        &settled_as().map(|state| state.balance_after().map(Balance::as_decimal)).collect::<Vec<_>>()
            as &[Option<Decimal>],
        &results.clone().map(|result| account_seq(result.outcome)).collect::<Vec<_>>() as &[Option<i64>],
    )
    .fetch_all(database)
    .await?;
    let times = settled
        .into_iter()
        .map(|row| (row.id, Times { accepted: row.created_at, settled: row.updated_at }));
    Ok(times.collect())
}

/// The number of an applied movement on its account.
#[must_use]
pub const fn account_seq(outcome: Outcome) -> Option<i64> {
    match outcome {
        Outcome::Applied { account_seq, .. } => Some(account_seq),
        Outcome::Refused(_) => None,
    }
}

/// Decides the results without an outcome: the record was settled before, has another
/// movement or does not exist, or another result of the record precedes in the batch.
async fn settle_remaining(
    connection: &mut PgConnection,
    results: &[TransactionResult],
    outcomes: &mut [Option<SettleOutcome>],
) -> Result<(), StoreError> {
    let remaining = results.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_none());
    let remaining: Vec<_> = remaining.collect();
    let mut records = lock_records(connection, remaining.iter().map(|(result, _)| *result)).await?;
    let mut pending = Vec::new();
    for (result, outcome) in remaining {
        let Some(record) = records.get_mut(&result.record_id) else {
            *outcome = Some(SettleOutcome::NoRecord);
            continue;
        };
        match effect_of(record.movement(), record.settlement, result) {
            Effect::None => *outcome = Some(SettleOutcome::SettledBefore),
            Effect::Contradicts(contradiction) => {
                *outcome = Some(SettleOutcome::Contradicts(contradiction));
            }
            Effect::Settles(settlement) => {
                record.settlement = Some(settlement);
                pending.push((result, outcome));
            }
        }
    }
    if !pending.is_empty() {
        // The records are locked, so the conditions of the statement still hold.
        let pending_results = pending.iter().map(|(result, _)| *result);
        let settled = settle_pending(&mut *connection, pending_results).await?;
        for (result, outcome) in pending {
            let times = settled.get(&result.record_id.as_uuid()).copied();
            *outcome = times.map(SettleOutcome::Settled);
        }
    }
    Ok(())
}

async fn lock_records(
    connection: &mut PgConnection,
    results: impl Iterator<Item = &TransactionResult>,
) -> Result<BTreeMap<RecordId, Record>, StoreError> {
    let ids: BTreeSet<Uuid> = results.map(|result| result.record_id.as_uuid()).collect();
    sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, account_seq, idempotency_key, reference, description,
                metadata::text AS metadata, api_key_id, created_at, updated_at
         FROM transaction_records WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
        &Vec::from_iter(ids),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Record::try_from(row).map(|record| (record.id, record)))
    .collect()
}

/// The settled records among these.
///
/// # Errors
/// [`StoreError`]
pub async fn settled_among(
    pool: &PgPool,
    records: &[RecordId],
) -> Result<Vec<RecordId>, StoreError> {
    let ids: Vec<_> = records.iter().map(|id| id.as_uuid()).collect();
    let settled = sqlx::query_scalar!(
        "SELECT id FROM transaction_records WHERE id = ANY($1) AND status <> 'PENDING'",
        &ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(settled.into_iter().map(RecordId::from_uuid).collect())
}
