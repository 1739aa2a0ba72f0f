//! What never changes about an account, its owner and its currency:
//! remembered, and looked up in groups where it is not.

use std::{collections::HashMap, sync::Arc, time::Duration};

use contract::{AccountId, Currency, UserId};
use quick_cache::sync::Cache;
use sqlx::PgPool;

use crate::{
    group::{self, Asked, Asking},
    store,
};

/// Accounts remembered at most, some 150 bytes each.
const REMEMBERED: usize = 50_000;
/// Longer than any statement may take.
const LONGEST_LOOK: Duration = Duration::from_secs(15);

type Found = Result<Option<(UserId, Currency)>, Arc<sqlx::Error>>;

/// The accounts that there are.
#[derive(Debug)]
pub struct Known {
    remembered: Cache<AccountId, (UserId, Currency)>,
    asking: Asking<AccountId, Found>,
}

/// Looks up what is not remembered.
#[derive(Debug)]
pub struct Lookup(Asked<AccountId, Found>);

/// Makes both ends.
#[must_use]
pub fn channel() -> (Known, Lookup) {
    let (asking, asked) = group::channel();
    (Known { remembered: Cache::new(REMEMBERED), asking }, Lookup(asked))
}

impl Known {
    /// The owner and currency of an account, if it exists.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, id: AccountId) -> Found {
        if let Some(account) = self.remembered.get(&id) {
            return Ok(Some(account));
        }
        let answer = self.asking.ask(id).await;
        let found = answer.unwrap_or_else(|| Err(Arc::new(sqlx::Error::WorkerCrashed)))?;
        if let Some(account) = &found {
            self.remembered.insert(id, account.clone());
        }
        Ok(found)
    }
}

impl Lookup {
    /// Looks up until the [`Known`] is gone.
    pub async fn run(mut self, pool: PgPool) {
        while let Some((ids, waiting)) = self.0.next().await {
            let found = tokio::time::timeout(LONGEST_LOOK, store::owners(&pool, &ids));
            let found = found.await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
            let found: Result<HashMap<_, _>, _> = found.map_err(Arc::new);
            for (id, waiting) in ids.iter().zip(waiting) {
                waiting.answer(match &found {
                    Ok(found) => Ok(found.get(id).cloned()),
                    Err(error) => Err(Arc::clone(error)),
                });
            }
        }
    }
}
