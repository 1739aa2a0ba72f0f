//! Applies commands in a transaction: locks their accounts, reads the decided records,
//! decides the others and writes. Any command can take this path.

use std::collections::{BTreeSet, HashMap};

use anyhow::anyhow;
use contract::{Command, RecordId, TransactionResult};
use ledger::{Decision, decide};
use runtime::{
    failpoint,
    postgres::{PgPool, PgTransaction, limited},
    worker::Failure,
};

use super::{
    accounts, chain,
    entries::{self, StoredEntry},
};

/// Maximum attempts. An attempt fails if accounts are missing, or if another writer
/// decides one of the records first.
const MAX_ATTEMPTS: usize = 5;

/// One result per command; `None` for a contradiction.
type Results = Vec<Option<TransactionResult>>;

/// Applies the commands and commits.
///
/// # Errors
/// [`Failure`]
pub(super) async fn apply(pool: &PgPool, commands: &[Command]) -> Result<Results, Failure> {
    for _ in 0..MAX_ATTEMPTS {
        if let Some(results) = limited(attempt(pool, commands)).await?? {
            return Ok(results);
        }
    }
    Err(Failure::Transient(anyhow!("other writers caused {MAX_ATTEMPTS} conflicts in a row")))
}

/// `None` if nothing was committed and another attempt is needed.
async fn attempt(pool: &PgPool, commands: &[Command]) -> Result<Option<Results>, Failure> {
    let mut transaction = pool.begin().await?;
    match write(&mut transaction, commands).await? {
        Written::All(results) => {
            transaction.commit().await?;
            failpoint::point("ledger.committed", &commands);
            Ok(Some(results))
        }
        Written::LostRace => {
            transaction.rollback().await?;
            Ok(None)
        }
        Written::MissingAccounts => {
            // Not in this transaction, because it must take its locks in one statement, in order.
            transaction.rollback().await?;
            accounts::add(pool, commands.iter()).await?;
            failpoint::point("ledger.accounts-added", &commands);
            Ok(None)
        }
    }
}

/// The uncommitted outcome of an attempt.
enum Written {
    All(Results),
    /// Another writer has decided one of the records.
    LostRace,
    MissingAccounts,
}

async fn write(transaction: &mut PgTransaction, commands: &[Command]) -> Result<Written, Failure> {
    let ids: BTreeSet<_> = commands.iter().map(|command| command.account_id).collect();
    let accounts = accounts::lock(transaction, &ids).await?;
    if accounts.len() < ids.len() {
        return Ok(Written::MissingAccounts);
    }
    let stored = entries::find(transaction, commands).await?;
    let decided = stored.iter().map(|(id, stored)| (*id, stored.entry)).collect();
    let batch = decide(accounts, decided, commands);
    let links = chain::of_decided(&batch.entries);
    accounts::write(transaction, &batch.moved, &links).await?;
    failpoint::point("ledger.balances-written", &commands);
    let Some(added) = entries::insert(transaction, batch.entries).await? else {
        return Ok(Written::LostRace);
    };
    failpoint::point("ledger.entries-inserted", &commands);
    let added = added.into_iter().map(|stored| (stored.entry.record_id, stored));
    Ok(Written::All(results(&batch.decisions, &stored.into_iter().chain(added).collect())))
}

fn results(decisions: &[Decision], stored: &HashMap<RecordId, StoredEntry>) -> Results {
    let result = |decision: &Decision| match decision {
        Decision::Contradiction => None,
        Decision::Outcome(record_id) => stored.get(record_id).map(TransactionResult::from),
    };
    decisions.iter().map(result).collect()
}
