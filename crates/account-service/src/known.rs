//! What is looked up in groups: accounts, whose owner and currency never change
//! and are remembered, and records.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use contract::{AccountId, Currency, RecordId, UserId};
use quick_cache::sync::Cache;
use sqlx::PgPool;

use crate::{
    group::{self, Asked, Asking},
    record::Record,
    store,
};

/// Accounts remembered at most, some 150 bytes each.
const REMEMBERED: usize = 50_000;
/// Longer than any statement may take.
const LONGEST_LOOK: Duration = Duration::from_secs(15);

type Found<T> = Result<Option<T>, Arc<sqlx::Error>>;
/// What was found of a group, or that it can't be read: that is only its
/// asker's concern.
type Rows<K, T> = HashMap<K, sqlx::Result<T>>;
type Account = (UserId, Currency);

/// What is in the database.
#[derive(Debug)]
pub struct Known {
    remembered: Cache<AccountId, Account>,
    accounts: Asking<AccountId, Found<Account>>,
    records: Asking<RecordId, Found<Record>>,
}

/// Looks it up.
#[derive(Debug)]
pub struct Lookup {
    accounts: Asked<AccountId, Found<Account>>,
    records: Asked<RecordId, Found<Record>>,
}

/// Makes both ends.
#[must_use]
pub fn channel() -> (Known, Lookup) {
    let (asking_accounts, accounts) = group::channel();
    let (asking_records, records) = group::channel();
    let remembered = Cache::new(REMEMBERED);
    let known = Known { remembered, accounts: asking_accounts, records: asking_records };
    (known, Lookup { accounts, records })
}

impl Known {
    /// The owner and currency of an account, if it exists.
    ///
    /// # Errors
    /// The database's.
    pub async fn account(&self, id: AccountId) -> Found<Account> {
        if let Some(account) = self.remembered(id) {
            return Ok(Some(account));
        }
        let found = ask(&self.accounts, id).await?;
        if let Some(account) = &found {
            self.remembered.insert(id, account.clone());
        }
        Ok(found)
    }

    /// The owner and currency of an account that was looked up before.
    #[must_use]
    pub fn remembered(&self, id: AccountId) -> Option<Account> {
        self.remembered.get(&id)
    }

    /// A record as it is now, if it exists.
    ///
    /// # Errors
    /// The database's.
    pub async fn record(&self, id: RecordId) -> Found<Record> {
        ask(&self.records, id).await
    }
}

async fn ask<K, T>(asking: &Asking<K, Found<T>>, key: K) -> Found<T> {
    asking.ask(key).await.unwrap_or_else(|| Err(Arc::new(sqlx::Error::WorkerCrashed)))
}

impl Lookup {
    /// Looks up until the [`Known`] is gone.
    pub async fn run(self, pool: PgPool) {
        let Self { mut accounts, mut records } = self;
        let accounts = async {
            while let Some((ids, waiting)) = accounts.next().await {
                let found = within_limit(store::owners(&pool, &ids)).await;
                answer(&ids, waiting, found);
            }
        };
        let records = async {
            while let Some((ids, waiting)) = records.next().await {
                let found = within_limit(store::find_records(&pool, &ids)).await;
                answer(&ids, waiting, found);
            }
        };
        tokio::join!(accounts, records);
    }
}

async fn within_limit<T>(look: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let looked = tokio::time::timeout(LONGEST_LOOK, look).await;
    looked.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn answer<K: Eq + Hash, T: Clone>(
    keys: &[K],
    waiting: Vec<group::Waiting<Found<T>>>,
    found: sqlx::Result<Rows<K, T>>,
) {
    let found = found.map_err(Arc::new).map(|rows| {
        let rows = rows.into_iter().map(|(key, row)| (key, row.map_err(Arc::new)));
        rows.collect::<HashMap<_, _>>()
    });
    for (key, waiting) in keys.iter().zip(waiting) {
        waiting.answer(match &found {
            Ok(found) => found.get(key).cloned().transpose(),
            Err(error) => Err(Arc::clone(error)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_can_not_be_read_concerns_its_asker_only() {
        let (asking, mut asked) = group::channel::<u8, Found<char>>();
        let answering = async {
            let (keys, waiting) = asked.next().await.unwrap();
            let unreadable = Err(sqlx::Error::Decode("odd".into()));
            answer(&keys, waiting, Ok(HashMap::from([(1, Ok('a')), (2, unreadable)])));
        };
        let (readable, unreadable, missing, ()) =
            tokio::join!(ask(&asking, 1), ask(&asking, 2), ask(&asking, 3), answering);
        assert_eq!(readable.unwrap(), Some('a'));
        assert!(unreadable.is_err());
        assert_eq!(missing.unwrap(), None);
    }
}
