//! Settles records while other transactions hold the rows of some records or accounts.
//! Such a row delays the results of its record, or of its account, only.

use std::collections::BTreeSet;

use contract::TransactionResult;
use runtime::{
    postgres::{self, PgPool},
    worker::LockedKeys,
};
use sqlx::types::Uuid;

use super::{SettleOutcome, StoreError, settle};

/// Maximum attempts to settle a batch. Each waits for the lock timeout, if further rows are
/// locked.
const MAX_ATTEMPTS: usize = 3;

/// As [`settle`], but without the results whose records or accounts are locked: their
/// outcome is [`SettleOutcome::Locked`]. `known` remembers the locked ones by their ids.
///
/// # Errors
/// [`StoreError`]
pub async fn settle_unlocked(
    pool: &PgPool,
    results: &[TransactionResult],
    known: &LockedKeys<Uuid>,
) -> Result<Vec<SettleOutcome>, StoreError> {
    let mut locked = locked_among(pool, known.among(ids(results)), known).await?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let open: Vec<_> =
            results.iter().filter(|result| !is_locked(result, &locked)).cloned().collect();
        match settle(pool, &open).await {
            Ok(outcomes) => return Ok(merge(results, &locked, outcomes)),
            Err(error) if error.is_locked() => {
                let found = locked_among(pool, ids(&open).collect(), known).await?;
                tracing::warn!(
                    rows = found.len(),
                    %error,
                    "other transactions hold records or accounts; settling the others"
                );
                if attempts == MAX_ATTEMPTS || attempts > 1 && found.is_empty() {
                    return Err(error);
                }
                locked.extend(found);
            }
            Err(error) => return Err(error),
        }
    }
}

fn ids(results: &[TransactionResult]) -> impl Iterator<Item = Uuid> {
    results.iter().flat_map(|result| [result.record_id.as_uuid(), result.account_id.as_uuid()])
}

fn is_locked(result: &TransactionResult, locked: &BTreeSet<Uuid>) -> bool {
    locked.contains(&result.record_id.as_uuid()) || locked.contains(&result.account_id.as_uuid())
}

fn merge(
    results: &[TransactionResult],
    locked: &BTreeSet<Uuid>,
    outcomes: Vec<SettleOutcome>,
) -> Vec<SettleOutcome> {
    let mut outcomes = outcomes.into_iter();
    let outcome = |result: &TransactionResult| {
        if is_locked(result, locked) {
            return SettleOutcome::Locked;
        }
        outcomes.next().unwrap_or(SettleOutcome::NoRecord)
    };
    results.iter().map(outcome).collect()
}

/// The records and accounts among these ids whose rows `SKIP LOCKED` leaves out. It locks the
/// others for the time of the statement.
async fn locked_among(
    pool: &PgPool,
    asked: BTreeSet<Uuid>,
    known: &LockedKeys<Uuid>,
) -> Result<BTreeSet<Uuid>, StoreError> {
    if asked.is_empty() {
        return Ok(asked);
    }
    let ids: Vec<_> = asked.iter().copied().collect();
    let locked = sqlx::query_scalar!(
        r#"WITH free_accounts AS (
               SELECT account_id FROM accounts WHERE account_id = ANY($1)
               FOR NO KEY UPDATE SKIP LOCKED
           ), free_records AS (
               SELECT id FROM transaction_records WHERE id = ANY($1)
               FOR NO KEY UPDATE SKIP LOCKED
           )
           SELECT account_id AS "id!" FROM accounts
           WHERE account_id = ANY($1) AND account_id NOT IN (SELECT account_id FROM free_accounts)
           UNION ALL
           SELECT id FROM transaction_records
           WHERE id = ANY($1) AND id NOT IN (SELECT id FROM free_records)"#,
        &ids
    );
    let locked = locked.fetch_all(pool).await.map_err(|error| {
        // If even this statement waits for a lock, the whole table is locked.
        if postgres::is_locked(&error) { StoreError::TableLocked } else { error.into() }
    })?;
    let locked = locked.into_iter().collect();
    known.found(&asked, &locked);
    Ok(locked)
}
