//! Opens accounts under idempotency keys: one account for a caller and a key.

use std::sync::Arc;

use audit_log::Actor;
use contract::{AccountId, Currency, UserId};
use runtime::{http::idempotency_key::IdempotencyKey, postgres::PgPool};
use sha2::{Digest, Sha256};

use super::{
    StoreError,
    accounts::{Account, AccountRow},
    labels,
};
use crate::labels::Labels;

/// A request to open an account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The id for a new account. It is not used if the request is a retry.
    pub id: AccountId,
    pub owner: UserId,
    pub currency: Currency,
    /// Without a description.
    pub labels: Labels,
}

impl NewAccount {
    /// Two requests with one key are the same request if their hashes are equal.
    fn request_hash(&self) -> [u8; 32] {
        let account = format!("account {} {}", self.currency, self.owner);
        let mut hash = Sha256::new_with_prefix(account);
        self.labels.add_to(&mut hash);
        hash.finalize().into()
    }
}

/// The outcome of a request to open an account.
#[derive(Debug)]
pub enum Opened {
    /// The account was opened.
    New(Account),
    /// The same request opened this account before.
    Replayed(Account),
    /// Another request has the key.
    KeyReused,
}

/// Opens an empty account, unless the caller has opened one under this key. Account, key and entry
/// in the audit log are stored together or not at all.
///
/// # Errors
/// [`StoreError`]. The account may be opened nevertheless. A retry with the same key finds it.
pub async fn open_account_once(
    pool: &PgPool,
    new: &NewAccount,
    caller: Actor<'_>,
    key: &IdempotencyKey,
) -> Result<Opened, StoreError> {
    let hash = new.request_hash();
    let opened = sqlx::query_as!(
        AccountRow,
        "WITH free AS (
             INSERT INTO account_keys (caller, idempotency_key, request_hash, account_id)
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
             RETURNING account_id
         ), opened AS (
             INSERT INTO accounts (account_id, owner_id, currency, reference, metadata, event_seq)
             SELECT account_id, $5, $6, $7, $8::text::jsonb, 1 FROM free
             RETURNING account_id, owner_id, currency, status, balance, account_seq,
                 reference, metadata::text AS metadata, created_at, updated_at
         ), announced AS (
             INSERT INTO events (account_id, sequence, type, created_at)
             SELECT account_id, 1, 1, clock_timestamp() FROM opened
         ), audited AS (
             INSERT INTO audit_log (id, actor, api_key_id, action, resource, details)
             SELECT $9, $1, $10, 'account.created', '/v1/accounts/' || account_id,
                 jsonb_build_object('ownerId', owner_id, 'currency', currency)
             FROM opened WHERE owner_id <> $1
         )
         SELECT account_id, owner_id, currency, status, balance, account_seq, reference, metadata,
             created_at, updated_at
         FROM opened",
        caller.user_id.as_str(),
        key.as_str(),
        &hash,
        new.id.as_uuid(),
        new.owner.as_str(),
        new.currency.code(),
        labels::reference(&new.labels),
        labels::metadata(&new.labels),
        caller.entry.as_uuid(),
        caller.api_key_id(),
    )
    .fetch_optional(pool)
    .await?;
    if let Some(opened) = opened {
        return Ok(Opened::New(opened.try_into()?));
    }
    let row = sqlx::query!(
        "SELECT request_hash, account_id, owner_id, currency, status, balance, account_seq,
             reference, metadata::text AS metadata, accounts.created_at, updated_at
         FROM account_keys JOIN accounts USING (account_id)
         WHERE caller = $1 AND idempotency_key = $2",
        caller.user_id.as_str(),
        key.as_str(),
    )
    .fetch_optional(pool)
    .await
    .map_err(|error| StoreError::AfterCommit(Arc::new(error.into())))?
    .ok_or(StoreError::MissingRecord)?;
    if row.request_hash != hash {
        return Ok(Opened::KeyReused);
    }
    let account = AccountRow {
        account_id: row.account_id,
        owner_id: row.owner_id,
        currency: row.currency,
        status: row.status,
        balance: row.balance,
        account_seq: row.account_seq,
        reference: row.reference,
        metadata: row.metadata,
        created_at: row.created_at,
        updated_at: row.updated_at,
    };
    Ok(Opened::Replayed(account.try_into()?))
}
