//! The ledger's SQL: a whole batch at a time.
//!
//! Most of what comes is new and possible. So a batch is taken to be that: one
//! statement moves the accounts that allow all that their commands ask for, and
//! adds the outcomes. What it leaves (a refusal, a record that is decided
//! already or stands there twice) is taken carefully, in a transaction of its
//! own: lock, look up what is decided, decide, write. Deciding in memory between
//! statements was three times as fast as one large statement with window sums;
//! the sums are made here before, and the statement only compares.

mod accounts;
mod entries;
mod usual;

use std::collections::{BTreeSet, HashMap};

use anyhow::anyhow;
use contract::{AccountId, Command, MovementResult, RecordId};
use quick_cache::sync::Cache;
use runtime::{crash, worker::Failure};
use sqlx::{PgPool, Postgres, Transaction};

use crate::ledger::{self, Answer};
use entries::{Stored, Taken};

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
}

impl Ledger {
    /// The ledger behind this pool.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool, seen: Cache::new(REMEMBERED) }
    }

    /// Applies a batch of commands and commits. Gives the result for each
    /// command, or `None` for one that contradicts what its record was decided
    /// for.
    ///
    /// # Errors
    /// [`Failure`]; what was committed of it all the same is the answer when
    /// the batch comes again.
    pub async fn apply(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Option<MovementResult>>, Failure> {
        let applied = self.apply_usual(commands).await?;
        let result = |command: &Command| applied.get(&command.record_id).map(MovementResult::from);
        let mut results: Vec<_> = commands.iter().map(result).collect();
        let mut left: Vec<_> =
            commands.iter().zip(&mut results).filter(|it| it.1.is_none()).collect();
        if left.is_empty() {
            crash::point("ledger.committed", &commands);
            return Ok(results);
        }
        if !applied.is_empty() {
            crash::point("ledger.part-committed", &commands);
        }
        let commands: Vec<_> = left.iter().map(|(command, _)| (*command).clone()).collect();
        let answers = self.apply_carefully(&commands).await?;
        left.iter_mut().zip(answers).for_each(|((_, result), answer)| **result = answer);
        Ok(results)
    }

    /// What could be done in one statement, by record.
    async fn apply_usual(
        &self,
        commands: &[Command],
    ) -> Result<HashMap<RecordId, Stored>, Failure> {
        let Some(forecast) = ledger::forecast(commands) else { return Ok(HashMap::new()) };
        let new = |account: &AccountId| self.seen.get(account).is_none();
        // Somebody else was faster with one of them: all of it is looked at carefully.
        let Ok(applied) = usual::apply(&self.pool, commands, &forecast, new).await? else {
            return Ok(HashMap::new());
        };
        for account in applied.values().map(|stored| stored.entry.account_id).filter(new) {
            self.seen.insert(account, ());
        }
        Ok(applied)
    }

    async fn apply_carefully(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Option<MovementResult>>, Failure> {
        for _ in 0..RACES {
            if let Some(results) = self.attempt(commands).await? {
                return Ok(results);
            }
        }
        Err(Failure::Transient(anyhow!("other writers were faster {RACES} times in a row")))
    }

    /// `None`: nothing was committed; begin anew.
    async fn attempt(
        &self,
        commands: &[Command],
    ) -> Result<Option<Vec<Option<MovementResult>>>, Failure> {
        let mut transaction = self.pool.begin().await?;
        match write_carefully(&mut transaction, commands).await? {
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
                // Not inside this transaction: its locks must be taken in one go, in order.
                transaction.rollback().await?;
                accounts::add(&self.pool, commands.iter()).await?;
                crash::point("ledger.accounts-added", &commands);
                Ok(None)
            }
        }
    }
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
