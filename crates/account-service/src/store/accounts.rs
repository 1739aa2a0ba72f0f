//! Accounts and their projected balances.

use std::collections::HashMap;

use contract::{AccountId, Balance, Currency, UserId};
use rust_decimal::Decimal;
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::unreadable;

/// An account, with its balance as far as results have told it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Who opened it.
    pub owner: UserId,
    /// The currency of everything that moves in it.
    pub currency: Currency,
    /// `ACTIVE`.
    pub status: String,
    /// What it holds.
    pub balance: Balance,
    /// How many transactions that balance includes.
    pub seq: i64,
    /// When it was opened.
    pub created_at: OffsetDateTime,
    /// When its balance last changed.
    pub updated_at: OffsetDateTime,
}

struct AccountRow {
    account_id: Uuid,
    owner_id: String,
    currency: String,
    status: String,
    balance: Decimal,
    account_seq: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<AccountRow> for Account {
    type Error = sqlx::Error;

    fn try_from(row: AccountRow) -> Result<Self, sqlx::Error> {
        let odd = || unreadable(&format!("account {}", row.account_id));
        let currency = Currency::parse(&row.currency).map_err(|_| odd())?;
        Ok(Self {
            id: AccountId::from_uuid(row.account_id),
            owner: row.owner_id.clone().try_into().map_err(|_| odd())?,
            currency,
            balance: Balance::from_decimal(row.balance, currency).ok_or_else(odd)?,
            status: row.status,
            seq: row.account_seq,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Opens an empty account.
///
/// # Errors
/// The database's.
pub async fn open_account(
    database: impl PgExecutor<'_>,
    id: AccountId,
    owner: &UserId,
    currency: Currency,
) -> sqlx::Result<Account> {
    sqlx::query_as!(
        AccountRow,
        "INSERT INTO accounts (account_id, owner_id, currency) VALUES ($1, $2, $3)
         RETURNING account_id, owner_id, currency, status, balance, account_seq, created_at, updated_at",
        id.as_uuid(),
        owner.as_str(),
        currency.code(),
    )
    .fetch_one(database)
    .await?
    .try_into()
}

/// The account with this id.
///
/// # Errors
/// The database's.
pub async fn find_account(
    database: impl PgExecutor<'_>,
    id: AccountId,
) -> sqlx::Result<Option<Account>> {
    sqlx::query_as!(
        AccountRow,
        "SELECT account_id, owner_id, currency, status, balance, account_seq, created_at, updated_at
         FROM accounts WHERE account_id = $1",
        id.as_uuid(),
    )
    .fetch_optional(database)
    .await?
    .map(Account::try_from)
    .transpose()
}

/// The owners and currencies of those of these accounts that exist, as far as
/// they can be read.
///
/// # Errors
/// The database's.
pub async fn owners(
    database: impl PgExecutor<'_>,
    ids: &[AccountId],
) -> sqlx::Result<HashMap<AccountId, sqlx::Result<(UserId, Currency)>>> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        "SELECT account_id, owner_id, currency FROM accounts WHERE account_id = ANY($1)",
        &ids
    )
    .fetch_all(database)
    .await?;
    let account = |id, owner: String, currency: &str| {
        let odd = || unreadable(&format!("account {id}"));
        Ok((owner.try_into().map_err(|_| odd())?, Currency::parse(currency).map_err(|_| odd())?))
    };
    let rows = rows.into_iter().map(|row| {
        let id = AccountId::from_uuid(row.account_id);
        (id, account(id, row.owner_id, &row.currency))
    });
    Ok(rows.collect())
}
