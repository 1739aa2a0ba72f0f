//! Looks up the records of dead letters in both databases.

use anyhow::{Context, Result};
use contract::{AccountId, Balance, Currency, Movement, Outcome, RecordId};
use ledger::{Account, Entry, SettledAs};
use reconciliation::movement_row::{self, MovementRow};
use runtime::postgres::limited;
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    database::{self, DatabaseUrls},
    dead_letter::{DeadLetter, KnownRecord, KnownRecords, KnownTransaction},
};

/// Connections to both databases.
pub(super) struct RecordLookup {
    accounts: PgConnection,
    ledger: PgConnection,
}

#[derive(Debug, FromRow)]
struct TransactionRow {
    #[sqlx(flatten)]
    movement: MovementRow,
    account_seq: Option<i64>,
}

#[derive(Debug, FromRow)]
struct AccountRow {
    account_id: Uuid,
    currency: String,
    balance: Decimal,
    account_seq: i64,
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
        limited(self.read(letters)).await?
    }

    async fn read(&mut self, letters: &[&DeadLetter]) -> Result<KnownRecords> {
        let ids: Vec<Uuid> =
            letters.iter().flat_map(|letter| &letter.records).map(|id| id.as_uuid()).collect();
        if ids.is_empty() {
            return Ok(KnownRecords::default());
        }
        let rows = movement_row::records(&mut self.accounts, &ids).await?;
        let account_ids: Vec<Uuid> = rows.values().map(|row| row.account_id).collect();
        let mut known = KnownRecords::default();
        for row in self.accounts(&account_ids).await? {
            let id = AccountId::from_uuid(row.account_id);
            if let Some(account) = parse_account(&row) {
                known.accounts.insert(id, account);
                continue;
            }
            let records = rows.values().filter(|record| record.account_id == row.account_id);
            for record in records {
                let reason = invalid_row("account", id);
                known.invalid.insert(RecordId::from_uuid(record.record_id), reason);
            }
        }
        for row in self.transactions(&ids).await? {
            let id = RecordId::from_uuid(row.movement.record_id);
            match parse_transaction(id, &row) {
                Some(transaction) => drop(known.transactions.insert(id, transaction)),
                None => drop(known.invalid.insert(id, invalid_row("transaction of record", id))),
            }
        }
        for row in rows.values() {
            let id = RecordId::from_uuid(row.record_id);
            match parse_record(row) {
                Some(record) => drop(known.records.insert(id, record)),
                None => drop(known.invalid.insert(id, invalid_row("record", id))),
            }
        }
        Ok(known)
    }

    async fn transactions(&mut self, ids: &[Uuid]) -> Result<Vec<TransactionRow>> {
        let rows = sqlx::query_as(
            "SELECT record_id, id AS transaction_id, account_id, type, amount, currency, status,
                    reason, balance_after, account_seq
             FROM transactions WHERE record_id = ANY($1)",
        )
        .bind(ids)
        .fetch_all(&mut self.ledger)
        .await?;
        Ok(rows)
    }

    async fn accounts(&mut self, ids: &[Uuid]) -> Result<Vec<AccountRow>> {
        let rows = sqlx::query_as(
            "SELECT account_id, currency, balance, account_seq FROM accounts
             WHERE account_id = ANY($1)",
        )
        .bind(ids)
        .fetch_all(&mut self.ledger)
        .await?;
        Ok(rows)
    }
}

fn invalid_row(kind: &str, id: impl std::fmt::Display) -> String {
    format!("the row of {kind} {id} is invalid: see `passbook verify`")
}

fn parse_record(row: &MovementRow) -> Option<KnownRecord> {
    let settlement = match row.status.as_str() {
        "PENDING" => None,
        _ => Some(row.settlement()?),
    };
    Some(KnownRecord { movement: row.movement()?, settlement })
}

fn parse_transaction(id: RecordId, row: &TransactionRow) -> Option<KnownTransaction> {
    let Movement { account_id, kind, amount, currency } = row.movement.movement()?;
    let settlement = row.movement.settlement()?;
    let outcome = match settlement.settled_as {
        SettledAs::Success(balance_after) => {
            Outcome::Applied { balance_after, account_seq: row.account_seq? }
        }
        SettledAs::Failed(reason) => Outcome::Refused(reason),
    };
    let entry = Entry { record_id: id, account_id, kind, amount, currency, outcome };
    Some(KnownTransaction { entry, settlement })
}

fn parse_account(row: &AccountRow) -> Option<Account> {
    let currency = Currency::parse(&row.currency).ok()?;
    let balance = Balance::from_decimal(row.balance, currency)?;
    Some(Account { currency, balance, seq: row.account_seq })
}
