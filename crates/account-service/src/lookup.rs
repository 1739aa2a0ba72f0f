//! Looks up accounts, records and API keys in batches. An account's owner and currency
//! never change, so they are cached.

use std::{collections::HashMap, hash::Hash};

use contract::{AccountId, Currency, RecordId, UserId};
use quick_cache::sync::Cache;
use runtime::{
    http::bearer::{ApiKey, ApiKeyHash},
    postgres::{NoAnswer, PgPool, limited},
};

use crate::{
    batcher::{self, Batcher, Batches, Responder},
    record::Record,
    store::{self, StoreError},
};

/// Maximum cached accounts, some 150 bytes each.
const CACHE_SIZE: usize = 50_000;

/// The row of a key, if it exists.
type Found<T> = Result<Option<T>, StoreError>;
/// The rows of a batch. A row that can't be read is an error for its own request
/// only.
type Rows<K, T> = HashMap<K, Result<T, StoreError>>;
type Account = (UserId, Currency);

/// Looks up accounts and records: the handle for the API.
#[derive(Debug)]
pub struct Lookup {
    cache: Cache<AccountId, Account>,
    accounts: Batcher<AccountId, Found<Account>>,
    records: Batcher<RecordId, Found<Record>>,
}

/// Looks up API keys: the handle for the verifier, which caches them.
#[derive(Debug)]
pub struct KeyLookup(Batcher<ApiKeyHash, Found<ApiKey>>);

/// Reads the rows for a [`Lookup`] and a [`KeyLookup`].
#[derive(Debug)]
pub struct Reader {
    api_keys: Batches<ApiKeyHash, Found<ApiKey>>,
    accounts: Batches<AccountId, Found<Account>>,
    records: Batches<RecordId, Found<Record>>,
}

/// Creates both ends of the queues.
#[must_use]
pub fn channel() -> (Lookup, KeyLookup, Reader) {
    let (key_batcher, api_keys) = batcher::channel();
    let (account_batcher, accounts) = batcher::channel();
    let (record_batcher, records) = batcher::channel();
    let cache = Cache::new(CACHE_SIZE);
    let lookup = Lookup { cache, accounts: account_batcher, records: record_batcher };
    (lookup, KeyLookup(key_batcher), Reader { api_keys, accounts, records })
}

impl Lookup {
    /// The owner and currency of an account, if it exists.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn account(&self, id: AccountId) -> Found<Account> {
        if let Some(account) = self.cached_account(id) {
            return Ok(Some(account));
        }
        let found = request(&self.accounts, id).await?;
        if let Some(account) = &found {
            self.cache.insert(id, account.clone());
        }
        Ok(found)
    }

    /// The owner and currency of an account, if they are cached.
    #[must_use]
    pub fn cached_account(&self, id: AccountId) -> Option<Account> {
        self.cache.get(&id)
    }

    /// The current state of a record, if it exists.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn record(&self, id: RecordId) -> Found<Record> {
        request(&self.records, id).await
    }
}

impl KeyLookup {
    /// The key with this hash, unless it is revoked. It may have expired.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn api_key(&self, hash: ApiKeyHash) -> Found<ApiKey> {
        request(&self.0, hash).await
    }
}

async fn request<K, T>(batcher: &Batcher<K, Found<T>>, key: K) -> Found<T> {
    batcher.request(key).await.unwrap_or(Err(StoreError::Stopped))
}

impl Reader {
    /// Reads until the [`Lookup`] and the [`KeyLookup`] are dropped.
    pub async fn run(self, pool: PgPool) {
        let Self { mut api_keys, mut accounts, mut records } = self;
        let api_keys = async {
            while let Some((hashes, responders)) = api_keys.next().await {
                let rows = limited(store::find_api_keys(&pool, &hashes)).await;
                respond(&hashes, responders, rows);
            }
        };
        let accounts = async {
            while let Some((ids, responders)) = accounts.next().await {
                let rows = limited(store::find_owners(&pool, &ids)).await;
                respond(&ids, responders, rows);
            }
        };
        let records = async {
            while let Some((ids, responders)) = records.next().await {
                let rows = limited(store::find_records(&pool, &ids)).await;
                respond(&ids, responders, rows);
            }
        };
        tokio::join!(api_keys, accounts, records);
    }
}

fn respond<K: Eq + Hash, T: Clone>(
    keys: &[K],
    responders: Vec<Responder<Found<T>>>,
    rows: Result<Result<Rows<K, T>, StoreError>, NoAnswer>,
) {
    let rows = rows.unwrap_or_else(|no_answer| Err(no_answer.into()));
    for (key, responder) in keys.iter().zip(responders) {
        responder.respond(match &rows {
            Ok(rows) => rows.get(key).cloned().transpose(),
            Err(error) => Err(error.clone()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_invalid_row_fails_its_own_request_only() {
        let (batcher, mut batches) = batcher::channel::<u8, Found<char>>();
        let reading = async {
            let (keys, responders) = batches.next().await.unwrap();
            let invalid = Err(StoreError::InvalidRow("row 2".to_owned()));
            respond(&keys, responders, Ok(Ok(HashMap::from([(1, Ok('a')), (2, invalid)]))));
        };
        let (valid, invalid, missing, ()) =
            tokio::join!(request(&batcher, 1), request(&batcher, 2), request(&batcher, 3), reading);
        assert_eq!(valid.unwrap(), Some('a'));
        assert!(invalid.is_err());
        assert_eq!(missing.unwrap(), None);
    }
}
