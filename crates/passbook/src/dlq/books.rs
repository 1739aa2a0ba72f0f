//! What the two databases say about the records of letters.

use std::collections::HashMap;

use anyhow::{Context, Result};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::letter::Letter;
use crate::database::{self, Movement, Urls};

/// Both databases.
pub(super) struct Books {
    accounts: PgConnection,
    ledger: PgConnection,
}

/// What stands in them about some records.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) records: HashMap<Uuid, Movement>,
    pub(super) transactions: HashMap<Uuid, Movement>,
    /// Currency and balance of the ledger's accounts.
    pub(super) accounts: HashMap<Uuid, (String, Decimal)>,
}

impl Books {
    pub(super) async fn open(urls: &Urls) -> Result<Self> {
        Ok(Self {
            accounts: database::connect(&urls.account).await.context("the account database")?,
            ledger: database::connect(&urls.transaction)
                .await
                .context("the transaction database")?,
        })
    }

    /// What stands there now about the records that these letters name.
    pub(super) async fn look_up(&mut self, letters: &[&Letter]) -> Result<Known> {
        let ids: Vec<Uuid> =
            letters.iter().filter_map(|it| it.record).map(|it| it.as_uuid()).collect();
        if ids.is_empty() {
            return Ok(Known::default());
        }
        let records = database::records(&mut self.accounts, &ids).await?;
        let transactions = database::transactions(&mut self.ledger, &ids).await?;
        let named: Vec<Uuid> = records.values().map(|it| it.account_id).collect();
        let accounts: Vec<(Uuid, String, Decimal)> = sqlx::query_as(
            "SELECT account_id, currency, balance FROM accounts WHERE account_id = ANY($1)",
        )
        .bind(&named)
        .fetch_all(&mut self.ledger)
        .await?;
        let accounts = accounts.into_iter().map(|(id, currency, it)| (id, (currency, it)));
        Ok(Known { records, transactions, accounts: accounts.collect() })
    }
}
