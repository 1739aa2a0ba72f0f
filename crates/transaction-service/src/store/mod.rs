//! The ledger's SQL: one transaction for a whole batch.
//!
//! The usual batch asks for movements that are all new and all possible. So it
//! is taken to be one: a single statement moves its accounts, and what that
//! gives is held against the decision. Where the two differ, or a record turns
//! out to be decided already, nothing is committed, and the batch is taken
//! carefully: lock, look up what is decided, decide, write. Deciding in memory
//! between statements was three times as fast as one large statement with
//! window sums.

mod accounts;
mod entries;
mod pace;

use std::collections::{BTreeSet, HashMap};

use anyhow::anyhow;
use contract::{AccountId, Command, MovementResult, RecordId};
use quick_cache::sync::Cache;
use runtime::{crash, worker::Failure};
use sqlx::{PgPool, Postgres, Transaction};

use crate::ledger::{self, Answer};
use entries::{Stored, Taken};
use pace::Pace;

/// How often a batch is begun anew because another writer was faster.
const RACES: usize = 5;
/// Accounts remembered to be there at most, some 60 bytes each.
const REMEMBERED: usize = 50_000;

/// The ledger as one consumer's workers write it.
#[derive(Debug)]
pub struct Ledger {
    pool: PgPool,
    /// Accounts that are there: none is ever deleted.
    seen: Cache<AccountId, ()>,
    pace: Pace,
}

impl Ledger {
    /// The ledger behind this pool.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool, seen: Cache::new(REMEMBERED), pace: Pace::default() }
    }

    /// Applies a batch of commands and commits. Gives the result for each
    /// command, or `None` for one that contradicts what its record was decided
    /// for.
    ///
    /// # Errors
    /// [`Failure`]; nothing was committed then.
    pub async fn apply(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Option<MovementResult>>, Failure> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.add_unseen(commands).await?;
        if self.pace.tries() {
            let results = self.attempt(commands, Way::Quick).await?;
            self.pace.tried(results.is_some());
            if let Some(results) = results {
                return Ok(results);
            }
        }
        for _ in 0..RACES {
            if let Some(results) = self.attempt(commands, Way::Careful).await? {
                return Ok(results);
            }
        }
        Err(Failure::Transient(anyhow!("other writers were faster {RACES} times in a row")))
    }

    /// Adds the accounts that may not be there yet: one that is missing would
    /// take its whole batch the careful way.
    async fn add_unseen(&self, commands: &[Command]) -> Result<(), Failure> {
        let unseen = |command: &&Command| self.seen.get(&command.account_id).is_none();
        let unseen: Vec<_> = commands.iter().filter(unseen).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        accounts::add(&self.pool, unseen.iter().copied()).await?;
        crash::point("ledger.accounts-added", &commands);
        unseen.into_iter().for_each(|command| self.seen.insert(command.account_id, ()));
        Ok(())
    }

    /// `None`: nothing was committed; begin anew, carefully.
    async fn attempt(
        &self,
        commands: &[Command],
        way: Way,
    ) -> Result<Option<Vec<Option<MovementResult>>>, Failure> {
        let mut transaction = self.pool.begin().await?;
        let written = match way {
            Way::Quick => write_quickly(&mut transaction, commands).await?,
            Way::Careful => write_carefully(&mut transaction, commands).await?,
        };
        match written {
            Written::All(results) => {
                transaction.commit().await?;
                crash::point("ledger.committed", &commands);
                Ok(Some(results))
            }
            Written::Nothing => {
                transaction.rollback().await?;
                Ok(None)
            }
            Written::AccountsAreMissing => {
                // Somebody has put an older ledger in this one's place. Not inside this
                // transaction: its locks must be taken in one go, in order.
                transaction.rollback().await?;
                accounts::add(&self.pool, commands.iter()).await?;
                Ok(None)
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Quick,
    Careful,
}

/// What an attempt has come to, uncommitted.
enum Written {
    /// All of it, with these results.
    All(Vec<Option<MovementResult>>),
    /// Not what should be committed.
    Nothing,
    /// Nothing, since not all accounts are there.
    AccountsAreMissing,
}

/// Moves the accounts as if every command were new and possible, which locks
/// them; decides on what they held before; and goes on only if both agree.
async fn write_quickly(
    transaction: &mut Transaction<'_, Postgres>,
    commands: &[Command],
) -> Result<Written, Failure> {
    let forecasts = ledger::forecast(commands);
    let advanced = accounts::advance(transaction, &forecasts).await?;
    let Some(before) = ledger::before(&advanced, &forecasts) else { return Ok(Written::Nothing) };
    let decisions = ledger::decide(before, HashMap::new(), commands);
    if decisions.moved != advanced || decisions.entries.len() != commands.len() {
        return Ok(Written::Nothing);
    }
    crash::point("ledger.balances-written", &commands);
    let Ok(stored) = entries::add_entries(transaction, decisions.entries).await? else {
        return Ok(Written::Nothing);
    };
    crash::point("ledger.entries-inserted", &commands);
    Ok(Written::All(stored.iter().map(|stored| Some(stored.into())).collect()))
}

/// Locks the accounts, and decides what is not decided yet.
async fn write_carefully(
    transaction: &mut Transaction<'_, Postgres>,
    commands: &[Command],
) -> Result<Written, Failure> {
    let named: BTreeSet<_> = commands.iter().map(|command| command.account_id).collect();
    let accounts = accounts::lock(transaction, &named).await?;
    if accounts.len() < named.len() {
        return Ok(Written::AccountsAreMissing);
    }
    let decided = entries::find_decided(transaction, commands).await?;
    let known = decided.iter().map(|(id, stored)| (*id, stored.entry)).collect();
    let decisions = ledger::decide(accounts, known, commands);
    accounts::write(transaction, &decisions.moved).await?;
    crash::point("ledger.balances-written", &commands);
    let added = match entries::add_entries(transaction, decisions.entries).await? {
        Ok(added) => added,
        Err(Taken::Record) => return Ok(Written::Nothing),
        // Under the lock, nobody else can have given that number.
        Err(Taken::Number) => {
            return Err(Failure::Other(anyhow!("an account is behind its transactions")));
        }
    };
    crash::point("ledger.entries-inserted", &commands);
    let added = added.into_iter().map(|stored| (stored.entry.record_id, stored));
    Ok(Written::All(results(&decisions.answers, &decided.into_iter().chain(added).collect())))
}

fn results(
    answers: &[Answer],
    outcomes: &HashMap<RecordId, Stored>,
) -> Vec<Option<MovementResult>> {
    let result = |answer: &Answer| match answer {
        Answer::Contradiction => None,
        Answer::Outcome(record_id) => outcomes.get(record_id).map(MovementResult::from),
    };
    answers.iter().map(result).collect()
}
