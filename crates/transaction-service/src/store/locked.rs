//! Applies commands while other transactions hold the rows of some accounts. Such an
//! account delays its own commands only.

use std::collections::BTreeSet;

use contract::{AccountId, Command, TransactionResult};
use runtime::{
    postgres::{self, PgPool},
    worker::Failure,
};
use sqlx::types::Uuid;

use super::Ledger;

/// Maximum attempts to apply a batch. Each waits for the lock timeout, if further accounts
/// are locked.
const MAX_ATTEMPTS: usize = 3;

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is decided, now or before.
    Decided(TransactionResult),
    /// Its record was decided for another movement.
    Contradiction,
    /// Another transaction holds its account.
    Locked,
}

impl Ledger {
    /// As [`Ledger::apply`], but without the commands whose accounts are locked.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::Locked`] if something else than an account's row is locked.
    pub async fn apply_unlocked(&self, commands: &[Command]) -> Result<Vec<Applied>, Failure> {
        let suspects = self.locked_accounts.among(accounts(commands));
        let mut locked = self.locked_among(suspects).await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let open: Vec<_> = commands
                .iter()
                .filter(|command| !locked.contains(&command.account_id))
                .cloned()
                .collect();
            match self.apply(&open).await {
                Ok(results) => return Ok(merge(commands, &locked, results)),
                Err(Failure::Locked(error)) => {
                    let found = self.locked_among(accounts(&open).collect()).await?;
                    tracing::warn!(
                        accounts = found.len(),
                        error = format!("{error:#}"),
                        "other transactions hold accounts; applying the commands of the others"
                    );
                    if attempts == MAX_ATTEMPTS || attempts > 1 && found.is_empty() {
                        return Err(Failure::Locked(error));
                    }
                    locked.extend(found);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Those of the accounts whose rows are locked now. Remembers them.
    async fn locked_among(
        &self,
        asked: BTreeSet<AccountId>,
    ) -> Result<BTreeSet<AccountId>, Failure> {
        if asked.is_empty() {
            return Ok(asked);
        }
        // If even this statement waits for a lock, the whole table is locked.
        let locked = locked_among(&self.pool, &asked).await.map_err(|error| {
            postgres::note(&error);
            Failure::Transient(error.into())
        })?;
        self.locked_accounts.found(&asked, &locked);
        Ok(locked)
    }
}

fn accounts(commands: &[Command]) -> impl Iterator<Item = AccountId> {
    commands.iter().map(|command| command.account_id)
}

fn merge(
    commands: &[Command],
    locked: &BTreeSet<AccountId>,
    results: Vec<Option<TransactionResult>>,
) -> Vec<Applied> {
    let mut results = results.into_iter();
    let applied = |command: &Command| {
        if locked.contains(&command.account_id) {
            return Applied::Locked;
        }
        results.next().flatten().map_or(Applied::Contradiction, Applied::Decided)
    };
    commands.iter().map(applied).collect()
}

/// The rows that `SKIP LOCKED` leaves out. It locks the others for the time of the statement.
async fn locked_among(
    pool: &PgPool,
    accounts: &BTreeSet<AccountId>,
) -> sqlx::Result<BTreeSet<AccountId>> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.as_uuid()).collect();
    let locked = sqlx::query_scalar!(
        "WITH free AS (
             SELECT account_id FROM accounts WHERE account_id = ANY($1)
             FOR NO KEY UPDATE SKIP LOCKED
         )
         SELECT account_id FROM accounts
         WHERE account_id = ANY($1) AND account_id NOT IN (SELECT account_id FROM free)",
        &ids
    );
    Ok(locked.fetch_all(pool).await?.into_iter().map(AccountId::from_uuid).collect())
}
