//! The ledger's SQL, one batch at a time.
//!
//! Most commands are new and allowed. A batch therefore first takes the fast path: one
//! statement moves the accounts that allow all their commands, and inserts the
//! outcomes. The remaining commands (refusals, decided or repeated records) take
//! the slow path, a transaction of its own: lock, read the decided records,
//! decide in memory, write. Both add a link to the chain of each account: see
//! [`ledger::chain`].
//!
//! Deciding in memory between two statements was three times as fast as one large
//! statement with window sums. The fast path computes the sums beforehand: its
//! statement only compares.

mod accounts;
mod chain;
mod entries;
mod fast_path;
mod locked;
mod slow_path;

use std::collections::HashMap;

use contract::{AccountId, Command, RecordId, TransactionResult};
use ledger::forecast;
use quick_cache::sync::Cache;
use runtime::{
    failpoint,
    postgres::PgPool,
    worker::{Failure, LockedKeys},
};

use entries::StoredEntry;
pub use locked::Applied;

/// Maximum accounts in the cache, some 60 bytes each.
const CACHE_SIZE: usize = 50_000;

/// The ledger for the workers of one consumer.
#[derive(Debug)]
pub struct Ledger {
    pool: PgPool,
    /// Accounts known to exist. An account is never deleted.
    known_accounts: Cache<AccountId, ()>,
    /// Accounts that other transactions held when they were last asked for.
    locked_accounts: LockedKeys<AccountId>,
}

impl Ledger {
    /// The ledger in this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let known_accounts = Cache::new(CACHE_SIZE);
        Self { pool, known_accounts, locked_accounts: LockedKeys::new() }
    }

    /// Applies a batch of commands and commits. Returns one result per command, in
    /// their order; `None` if the command's record was decided for another
    /// movement.
    ///
    /// # Errors
    /// [`Failure`]. Parts of the batch may still be committed. A redelivered command is
    /// answered with the stored outcome.
    pub async fn apply(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Option<TransactionResult>>, Failure> {
        let applied = self.apply_fast(commands).await?;
        let result =
            |command: &Command| applied.get(&command.record_id).map(TransactionResult::from);
        let mut results: Vec<_> = commands.iter().map(result).collect();
        let mut remaining: Vec<_> =
            commands.iter().zip(&mut results).filter(|(_, result)| result.is_none()).collect();
        if remaining.is_empty() {
            failpoint::point("ledger.committed", &commands);
            return Ok(results);
        }
        if !applied.is_empty() {
            failpoint::point("ledger.part-committed", &commands);
        }
        let commands: Vec<_> = remaining.iter().map(|(command, _)| (*command).clone()).collect();
        let decided = slow_path::apply(&self.pool, &commands).await?;
        remaining.iter_mut().zip(decided).for_each(|((_, result), decided)| **result = decided);
        Ok(results)
    }

    /// The entries applied by the fast path, by record.
    async fn apply_fast(
        &self,
        commands: &[Command],
    ) -> Result<HashMap<RecordId, StoredEntry>, Failure> {
        let Some(forecast) = forecast(commands) else { return Ok(HashMap::new()) };
        let is_new = |account: &AccountId| self.known_accounts.get(account).is_none();
        let applied = fast_path::apply(&self.pool, commands, &forecast, is_new).await?;
        let accounts = applied.values().map(|stored| stored.entry.account_id);
        for account in accounts.filter(is_new) {
            self.known_accounts.insert(account, ());
        }
        Ok(applied)
    }
}
