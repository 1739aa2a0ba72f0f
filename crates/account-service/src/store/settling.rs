//! Records settled, and the balances that go with them.

use std::collections::{BTreeMap, BTreeSet};

use contract::{AccountId, Balance, MovementResult, Outcome, RecordId};
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
        crash::point("settle.records-written", &results);
        project_balances(&mut transaction, &balances).await?;
        crash::point("settle.balances-projected", &results);
    }
    transaction.commit().await?;
    crash::point("settle.committed", &results);
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
