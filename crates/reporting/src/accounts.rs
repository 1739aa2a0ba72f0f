//! Accounts, from the account-service's database.
//!
//! sqlx checks the statements of a crate against one database, which is the ledger's
//! here. So the one statement of this module is checked when it runs, by a test.

use contract::{AccountId, Currency};
use ledger_reader::{InvalidUrl, report_pool};
use runtime::postgres::PgPool;
use sqlx::FromRow;
use time::OffsetDateTime;

/// What a report says about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// The account.
    pub account_id: AccountId,
    /// The user who owns it.
    pub owner_id: String,
    /// Its currency.
    pub currency: Currency,
    /// When it was opened.
    pub created_at: OffsetDateTime,
}

/// Why an account could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The account has a currency of a newer release.
    #[error("account {0} has the unknown currency {1:?}")]
    UnknownCurrency(AccountId, String),
    /// The database's error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The account database, as reports see it.
#[derive(Debug, Clone)]
pub struct Accounts {
    pool: PgPool,
}

#[derive(FromRow)]
struct AccountRow {
    owner_id: String,
    currency: String,
    created_at: OffsetDateTime,
}

impl Accounts {
    /// The accounts at this URL. Connects on first use.
    ///
    /// # Errors
    /// [`InvalidUrl`]
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        Ok(Self { pool: report_pool(url)? })
    }

    /// For the other reads of this database.
    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Looks an account up. `None` if it was never opened.
    ///
    /// # Errors
    /// [`AccountsError`]
    pub async fn find(&self, account_id: AccountId) -> Result<Option<AccountInfo>, AccountsError> {
        let row = sqlx::query_as::<_, AccountRow>(
            "SELECT owner_id, currency, created_at FROM reporting.accounts WHERE account_id = $1",
        )
        .bind(account_id.as_uuid())
        .fetch_optional(&self.pool)
        .await?;
        let Some(AccountRow { owner_id, currency, created_at }) = row else { return Ok(None) };
        match Currency::parse(&currency) {
            Ok(currency) => Ok(Some(AccountInfo { account_id, owner_id, currency, created_at })),
            Err(_) => Err(AccountsError::UnknownCurrency(account_id, currency)),
        }
    }
}
