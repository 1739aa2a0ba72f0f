//! Looks up the records of dead letters in both databases.

use std::collections::HashMap;

use anyhow::{Context, Result};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::dead_letter::DeadLetter;
use crate::{
    database::{self, DatabaseUrls},
    movement_row::{self, MovementRow},
};

/// Connections to both databases.
pub(super) struct RecordLookup {
    accounts: PgConnection,
    ledger: PgConnection,
}

/// The rows of some records at the time of the lookup.
#[derive(Debug, Default)]
pub(super) struct KnownRecords {
    pub(super) records: HashMap<Uuid, MovementRow>,
    pub(super) transactions: HashMap<Uuid, MovementRow>,
    /// Currency and balance of the records' accounts in the ledger.
    pub(super) accounts: HashMap<Uuid, (String, Decimal)>,
}

impl RecordLookup {
    /// # Errors
    /// When a database can't be reached.
    pub(super) async fn connect(urls: &DatabaseUrls) -> Result<Self> {
        Ok(Self {
            accounts: database::connect(&urls.account).await.context("the account database")?,
            ledger: database::connect(&urls.transaction)
                .await
                .context("the transaction database")?,
        })
    }

    /// Looks up the records named by these dead letters.
    ///
    /// # Errors
    /// A database's.
    pub(super) async fn look_up(&mut self, letters: &[&DeadLetter]) -> Result<KnownRecords> {
        let ids: Vec<Uuid> =
            letters.iter().filter_map(|letter| letter.record).map(|id| id.as_uuid()).collect();
        if ids.is_empty() {
            return Ok(KnownRecords::default());
        }
        let records = movement_row::records(&mut self.accounts, &ids).await?;
        let transactions = movement_row::transactions(&mut self.ledger, &ids).await?;
        let account_ids: Vec<Uuid> = records.values().map(|record| record.account_id).collect();
        let accounts: Vec<(Uuid, String, Decimal)> = sqlx::query_as(
            "SELECT account_id, currency, balance FROM accounts WHERE account_id = ANY($1)",
        )
        .bind(&account_ids)
        .fetch_all(&mut self.ledger)
        .await?;
        let accounts =
            accounts.into_iter().map(|(id, currency, balance)| (id, (currency, balance)));
        Ok(KnownRecords { records, transactions, accounts: accounts.collect() })
    }
}
