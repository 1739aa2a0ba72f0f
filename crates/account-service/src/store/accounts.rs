//! Accounts and their projected balances.

use std::collections::HashMap;

use audit_log::Actor;
use contract::{AccountId, Balance, Currency, UserId};
use rust_decimal::Decimal;
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::{
    StoreError,
    account_keys::NewAccount,
    labels::{self, LabelColumns},
};
use crate::labels::{Labels, Reference};

/// An account with its projected balance: as of the newest result.
#[derive(Debug, Clone)]
pub struct Account {
    pub id: AccountId,
    /// The user that the account belongs to.
    pub owner: UserId,
    pub currency: Currency,
    /// Always `ACTIVE` at present.
    pub status: String,
    pub balance: Balance,
    /// The number of transactions in the balance.
    pub seq: i64,
    pub labels: Labels,
    /// When the account was opened.
    pub created_at: OffsetDateTime,
    /// When the balance last changed.
    pub updated_at: OffsetDateTime,
}

pub(super) struct AccountRow {
    pub(super) account_id: Uuid,
    pub(super) owner_id: String,
    pub(super) currency: String,
    pub(super) status: String,
    pub(super) balance: Decimal,
    pub(super) account_seq: i64,
    pub(super) reference: Option<String>,
    pub(super) metadata: Option<String>,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
}

impl TryFrom<AccountRow> for Account {
    type Error = StoreError;

    fn try_from(row: AccountRow) -> Result<Self, StoreError> {
        let invalid = || StoreError::InvalidRow(format!("account {}", row.account_id));
        let currency = Currency::parse(&row.currency).map_err(|_| invalid())?;
        let labels =
            LabelColumns { reference: row.reference, description: None, metadata: row.metadata };
        Ok(Self {
            id: AccountId::from_uuid(row.account_id),
            owner: row.owner_id.clone().try_into().map_err(|_| invalid())?,
            currency,
            balance: Balance::from_decimal(row.balance, currency).ok_or_else(invalid)?,
            status: row.status,
            seq: row.account_seq,
            labels: labels.parse().ok_or_else(invalid)?,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Opens an empty account, with its first event, and an entry in the audit log if its owner is not
/// the caller.
///
/// # Errors
/// [`StoreError`]
pub async fn open_account(
    database: impl PgExecutor<'_>,
    new: &NewAccount,
    caller: Actor<'_>,
) -> Result<Account, StoreError> {
    sqlx::query_as!(
        AccountRow,
        "WITH opened AS (
             INSERT INTO accounts (account_id, owner_id, currency, reference, metadata, event_seq)
             VALUES ($1, $2, $3, $4, $5::text::jsonb, 1)
             RETURNING account_id, owner_id, currency, status, balance, account_seq,
                 reference, metadata::text AS metadata, created_at, updated_at
         ), announced AS (
             INSERT INTO events (account_id, sequence, type, created_at)
             SELECT account_id, 1, 1, clock_timestamp() FROM opened
         ), audited AS (
             INSERT INTO audit_log (id, actor, api_key_id, action, resource, details)
             SELECT $6, $7, $8, 'account.created', '/v1/accounts/' || account_id,
                 jsonb_build_object('ownerId', owner_id, 'currency', currency)
             FROM opened WHERE owner_id <> $7
         )
         SELECT account_id, owner_id, currency, status, balance, account_seq, reference, metadata,
             created_at, updated_at
         FROM opened",
        new.id.as_uuid(),
        new.owner.as_str(),
        new.currency.code(),
        labels::reference(&new.labels),
        labels::metadata(&new.labels),
        caller.entry.as_uuid(),
        caller.user_id.as_str(),
        caller.api_key_id(),
    )
    .fetch_one(database)
    .await?
    .try_into()
}

/// The account with this id.
///
/// # Errors
/// [`StoreError`]
pub async fn find_account(
    database: impl PgExecutor<'_>,
    id: AccountId,
) -> Result<Option<Account>, StoreError> {
    sqlx::query_as!(
        AccountRow,
        "SELECT account_id, owner_id, currency, status, balance, account_seq,
             reference, metadata::text AS metadata, created_at, updated_at
         FROM accounts WHERE account_id = $1",
        id.as_uuid(),
    )
    .fetch_optional(database)
    .await?
    .map(Account::try_from)
    .transpose()
}

/// The existing accounts among these.
///
/// # Errors
/// [`StoreError`]
pub async fn find_accounts(
    database: impl PgExecutor<'_>,
    ids: &[AccountId],
) -> Result<HashMap<AccountId, Account>, StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query_as!(
        AccountRow,
        "SELECT account_id, owner_id, currency, status, balance, account_seq,
             reference, metadata::text AS metadata, created_at, updated_at
         FROM accounts WHERE account_id = ANY($1)",
        &ids,
    )
    .fetch_all(database)
    .await?
    .into_iter()
    .map(|row| Account::try_from(row).map(|account| (account.id, account)))
    .collect()
}

/// All accounts with ids below `before`, newest first, by the primary key.
///
/// # Errors
/// [`StoreError`]
pub async fn list_accounts(
    database: impl PgExecutor<'_>,
    before: Option<AccountId>,
    limit: u16,
) -> Result<Vec<Account>, StoreError> {
    sqlx::query_as!(
        AccountRow,
        "SELECT account_id, owner_id, currency, status, balance, account_seq,
             reference, metadata::text AS metadata, created_at, updated_at
         FROM accounts WHERE account_id < $1 ORDER BY account_id DESC LIMIT $2",
        before.map_or(Uuid::max(), AccountId::as_uuid),
        i64::from(limit),
    )
    .fetch_all(database)
    .await?
    .into_iter()
    .map(Account::try_from)
    .collect()
}

/// As [`list_accounts`], those of an owner, by the index on owners.
///
/// # Errors
/// [`StoreError`]
pub async fn list_accounts_of(
    database: impl PgExecutor<'_>,
    owner: &UserId,
    before: Option<AccountId>,
    limit: u16,
) -> Result<Vec<Account>, StoreError> {
    sqlx::query_as!(
        AccountRow,
        "SELECT account_id, owner_id, currency, status, balance, account_seq,
             reference, metadata::text AS metadata, created_at, updated_at
         FROM accounts WHERE owner_id = $1 AND account_id < $2 ORDER BY account_id DESC LIMIT $3",
        owner.as_str(),
        before.map_or(Uuid::max(), AccountId::as_uuid),
        i64::from(limit),
    )
    .fetch_all(database)
    .await?
    .into_iter()
    .map(Account::try_from)
    .collect()
}

/// As [`list_accounts`], those with a reference, of an owner or of any, by the index on references.
///
/// # Errors
/// [`StoreError`]
pub async fn list_accounts_by_reference(
    database: impl PgExecutor<'_>,
    reference: &Reference,
    owner: Option<&UserId>,
    before: Option<AccountId>,
    limit: u16,
) -> Result<Vec<Account>, StoreError> {
    let before = before.map_or(Uuid::max(), AccountId::as_uuid);
    let rows = match owner {
        None => {
            sqlx::query_as!(
                AccountRow,
                "SELECT account_id, owner_id, currency, status, balance, account_seq,
                     reference, metadata::text AS metadata, created_at, updated_at
                 FROM accounts WHERE reference = $1 AND account_id < $2
                 ORDER BY account_id DESC LIMIT $3",
                reference.as_str(),
                before,
                i64::from(limit),
            )
            .fetch_all(database)
            .await?
        }
        Some(owner) => {
            sqlx::query_as!(
                AccountRow,
                "SELECT account_id, owner_id, currency, status, balance, account_seq,
                     reference, metadata::text AS metadata, created_at, updated_at
                 FROM accounts WHERE owner_id = $1 AND reference = $2 AND account_id < $3
                 ORDER BY account_id DESC LIMIT $4",
                owner.as_str(),
                reference.as_str(),
                before,
                i64::from(limit),
            )
            .fetch_all(database)
            .await?
        }
    };
    rows.into_iter().map(Account::try_from).collect()
}

/// The owners and currencies of the existing accounts among these.
///
/// # Errors
/// [`StoreError`]
pub async fn find_owners(
    database: impl PgExecutor<'_>,
    ids: &[AccountId],
) -> Result<HashMap<AccountId, Result<(UserId, Currency), StoreError>>, StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        "SELECT account_id, owner_id, currency FROM accounts WHERE account_id = ANY($1)",
        &ids
    )
    .fetch_all(database)
    .await?;
    let account = |id, owner: String, currency: &str| {
        let invalid = || StoreError::InvalidRow(format!("account {id}"));
        Ok((
            owner.try_into().map_err(|_| invalid())?,
            Currency::parse(currency).map_err(|_| invalid())?,
        ))
    };
    let rows = rows.into_iter().map(|row| {
        let id = AccountId::from_uuid(row.account_id);
        (id, account(id, row.owner_id, &row.currency))
    });
    Ok(rows.collect())
}
