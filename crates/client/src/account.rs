//! Accounts.

use contract::AccountId;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};

use crate::{Client, Error, IdempotencyKey, Metadata, Page, Request, money, query};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Its id.
    pub account_id: AccountId,
    /// The user that it belongs to.
    pub owner_id: String,
    /// ISO 4217.
    pub currency: String,
    /// `ACTIVE`, or a state of a later release.
    pub status: String,
    /// The posted amount.
    #[serde(with = "money")]
    pub balance: Decimal,
    /// The number of movements behind the balance.
    pub account_seq: i64,
    /// The sum of PENDING deposits. `None` in a list.
    #[serde(default, with = "money::optional")]
    pub pending_in: Option<Decimal>,
    /// The sum of PENDING withdrawals. `None` in a list.
    #[serde(default, with = "money::optional")]
    pub pending_out: Option<Decimal>,
    /// The balance without the PENDING withdrawals. `None` in a list.
    #[serde(default, with = "money::optional")]
    pub available: Option<Decimal>,
    /// The client's own name for it.
    pub reference: Option<String>,
    /// The client's own entries.
    pub metadata: Metadata,
    /// When it was opened.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// The account to open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenAccount {
    /// ISO 4217.
    pub currency: String,
    /// Its owner. By default the caller; another one needs the scope `accounts:any`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// The client's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The client's own entries.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl OpenAccount {
    /// An account of the caller in this currency.
    #[must_use]
    pub fn new(currency: impl Into<String>) -> Self {
        Self { currency: currency.into(), ..Self::default() }
    }
}

/// Which accounts to list. By default all that the caller may see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountFilter {
    /// Of this owner.
    pub owner_id: Option<String>,
    /// With this status.
    pub status: Option<String>,
    /// With this reference.
    pub reference: Option<String>,
    /// Maximum number of items of a page.
    pub limit: Option<u32>,
}

impl Client {
    /// Opens an account. The same request with the same key gives the same account.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn open_account(
        &self,
        account: &OpenAccount,
        key: &IdempotencyKey,
    ) -> Result<Account, Error> {
        self.call(&Request::post("/v1/accounts", account)?.key(key)).await
    }

    /// The account with this id.
    ///
    /// # Errors
    /// Of the last try. The account of another owner looks as if it did not exist.
    pub async fn account(&self, id: AccountId) -> Result<Account, Error> {
        self.call(&Request::get(format!("/v1/accounts/{id}"))).await
    }

    /// A page of the accounts, newest first. `cursor` is that of the page before.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn accounts(
        &self,
        filter: &AccountFilter,
        cursor: Option<&str>,
    ) -> Result<Page<Account>, Error> {
        let parameters = [
            ("ownerId", filter.owner_id.clone()),
            ("status", filter.status.clone()),
            ("reference", filter.reference.clone()),
            ("limit", filter.limit.map(|limit| limit.to_string())),
            ("cursor", cursor.map(str::to_owned)),
        ];
        self.call(&Request::get(query::path("/v1/accounts", &parameters))).await
    }
}
