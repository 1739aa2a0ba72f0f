//! Records: found and listed.

use std::collections::HashMap;

use contract::{AccountId, Amount, Balance, Currency, Kind, Reason, RecordId};
use rust_decimal::Decimal;
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::unreadable;
use crate::record::{Record, Settlement};

pub(super) struct RecordRow {
    pub(super) id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) user_id: String,
    pub(super) kind: String,
    pub(super) amount: Decimal,
    pub(super) currency: String,
    pub(super) transaction_id: Option<i64>,
    pub(super) reason: Option<String>,
    pub(super) balance_after: Option<Decimal>,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
}

impl TryFrom<RecordRow> for Record {
    type Error = sqlx::Error;

    fn try_from(row: RecordRow) -> Result<Self, sqlx::Error> {
        let odd = || unreadable(&format!("record {}", row.id));
        let currency = Currency::parse(&row.currency).map_err(|_| odd())?;
        let end = match (&row.reason, row.balance_after) {
            (None, Some(balance)) => {
                Some(Ok(Balance::from_decimal(balance, currency).ok_or_else(odd)?))
            }
            (Some(name), None) => Some(Err(Reason::parse(name).ok_or_else(odd)?)),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(odd()),
        };
        let settlement = match (row.transaction_id, end) {
            (Some(transaction_id), Some(end)) => Some(Settlement { transaction_id, end }),
            (None, None) => None,
            _ => return Err(odd()),
        };
        Ok(Self {
            id: RecordId::from_uuid(row.id),
            account_id: AccountId::from_uuid(row.account_id),
            user_id: row.user_id.clone().try_into().map_err(|_| odd())?,
            kind: Kind::parse(&row.kind).ok_or_else(odd)?,
            amount: Amount::from_decimal(row.amount, currency).map_err(|_| odd())?,
            currency,
            settlement,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Those of these records that exist, as far as they can be read.
///
/// # Errors
/// The database's.
pub async fn find_records(
    database: impl PgExecutor<'_>,
    ids: &[RecordId],
) -> sqlx::Result<HashMap<RecordId, sqlx::Result<Record>>> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, created_at, updated_at
         FROM transaction_records WHERE id = ANY($1)",
        &ids
    )
    .fetch_all(database)
    .await?;
    let rows = rows.into_iter().map(|row| (RecordId::from_uuid(row.id), row.try_into()));
    Ok(rows.collect())
}

/// An account's records, newest first, that are older than `before`.
///
/// # Errors
/// The database's.
pub async fn list_records(
    database: impl PgExecutor<'_>,
    account: AccountId,
    before: Option<RecordId>,
    limit: u16,
) -> sqlx::Result<Vec<Record>> {
    let before = before.map_or(Uuid::max(), RecordId::as_uuid);
    sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, created_at, updated_at
         FROM transaction_records WHERE account_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        account.as_uuid(),
        before,
        i64::from(limit),
    )
    .fetch_all(database)
    .await?
    .into_iter()
    .map(Record::try_from)
    .collect()
}
