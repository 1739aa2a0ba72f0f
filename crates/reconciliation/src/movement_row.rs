//! Records and transactions as rows of one form, so that both sides can be compared.

use std::{collections::HashMap, fmt};

use contract::{AccountId, Amount, Balance, Currency, Kind, Movement, Reason};
use ledger::{SettledAs, Settlement};
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::rows;

/// A record of the account-service, or a transaction of the ledger.
#[derive(Debug, PartialEq, FromRow)]
pub struct MovementRow {
    pub record_id: Uuid,
    pub transaction_id: Option<i64>,
    pub account_id: Uuid,
    pub r#type: String,
    pub amount: Decimal,
    pub currency: String,
    pub status: String,
    pub reason: Option<String>,
    pub balance_after: Option<Decimal>,
}

impl MovementRow {
    /// The money to move; `None` if no service could have written the row.
    #[must_use]
    pub fn movement(&self) -> Option<Movement> {
        let currency = Currency::parse(&self.currency).ok()?;
        Some(Movement {
            account_id: AccountId::from_uuid(self.account_id),
            kind: Kind::parse(&self.r#type)?,
            amount: Amount::from_decimal(self.amount, currency).ok()?,
            currency,
        })
    }

    /// The outcome; `None` for a PENDING record, or if no service could have written the row.
    #[must_use]
    pub fn settlement(&self) -> Option<Settlement> {
        let settled_as = match (self.status.as_str(), self.reason.as_deref(), self.balance_after) {
            ("SUCCESS", None, Some(balance)) => {
                let currency = Currency::parse(&self.currency).ok()?;
                SettledAs::Success(Balance::from_decimal(balance, currency)?)
            }
            ("FAILED", Some(reason), None) => SettledAs::Failed(Reason::parse(reason)?),
            _ => return None,
        };
        Some(Settlement { transaction_id: self.transaction_id?, settled_as })
    }

    /// Whether both rows move the same amount of the same currency, in the same direction, on the
    /// same account.
    #[must_use]
    pub fn is_same_movement(&self, other: &Self) -> bool {
        let movement = |row: &Self| (row.account_id, row.amount);
        movement(self) == movement(other)
            && self.r#type == other.r#type
            && self.currency == other.currency
    }
}

/// `DEPOSIT of 100 KRW on account …, SUCCESS, transaction 7, balance 100`
impl fmt::Display for MovementRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account_id, r#type, amount, currency, status, .. } = self;
        let amount = amount.normalize();
        write!(f, "{} of {amount} {currency} on account {account_id}, {status}", r#type)?;
        if let Some(id) = self.transaction_id {
            write!(f, ", transaction {id}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ", {reason}")?;
        }
        self.balance_after.map_or(Ok(()), |balance| write!(f, ", balance {}", balance.normalize()))
    }
}

/// The records with these ids, by record id.
///
/// # Errors
/// The database's.
pub async fn records(
    accounts: &mut PgConnection,
    ids: &[Uuid],
) -> sqlx::Result<HashMap<Uuid, MovementRow>> {
    let records = sqlx::query_as::<_, MovementRow>(
        "SELECT id AS record_id, transaction_id, account_id, type, amount, currency, status, reason,
                balance_after
         FROM transaction_records WHERE id = ANY($1)",
    );
    Ok(by_record_id(rows::answered(records.bind(ids).fetch_all(accounts)).await?))
}

/// The ledger's transactions of these records, by record id.
///
/// # Errors
/// The database's.
pub async fn transactions(
    ledger: &mut PgConnection,
    ids: &[Uuid],
) -> sqlx::Result<HashMap<Uuid, MovementRow>> {
    let transactions = sqlx::query_as::<_, MovementRow>(
        "SELECT record_id, id AS transaction_id, account_id, type, amount, currency, status, reason,
                balance_after
         FROM transactions WHERE record_id = ANY($1)",
    );
    Ok(by_record_id(rows::answered(transactions.bind(ids).fetch_all(ledger)).await?))
}

fn by_record_id(rows: Vec<MovementRow>) -> HashMap<Uuid, MovementRow> {
    rows.into_iter().map(|row| (row.record_id, row)).collect()
}
