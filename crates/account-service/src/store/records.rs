//! Reads records.

use std::collections::HashMap;

use contract::{AccountId, Amount, ApiKeyId, Balance, Currency, Kind, Reason, RecordId};
use ledger::{SettledAs, Settlement};
use runtime::telemetry::trace::Trace;
use rust_decimal::Decimal;
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::{StoreError, key_scope::unscoped, labels::LabelColumns};
use crate::record::Record;

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
    pub(super) account_seq: Option<i64>,
    pub(super) idempotency_key: String,
    pub(super) reference: Option<String>,
    pub(super) description: Option<String>,
    pub(super) metadata: Option<String>,
    pub(super) api_key_id: Option<Uuid>,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
}

impl TryFrom<RecordRow> for Record {
    type Error = StoreError;

    fn try_from(row: RecordRow) -> Result<Self, StoreError> {
        let invalid = || StoreError::InvalidRow(format!("record {}", row.id));
        let currency = Currency::parse(&row.currency).map_err(|_| invalid())?;
        let settled_as = match (&row.reason, row.balance_after) {
            (None, Some(balance)) => {
                let balance = Balance::from_decimal(balance, currency).ok_or_else(invalid)?;
                Some(SettledAs::Success(balance))
            }
            (Some(name), None) => Some(SettledAs::Failed(Reason::parse(name).ok_or_else(invalid)?)),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(invalid()),
        };
        let settlement = match (row.transaction_id, settled_as) {
            (Some(transaction_id), Some(settled_as)) => {
                Some(Settlement { transaction_id, settled_as })
            }
            (None, None) => None,
            _ => return Err(invalid()),
        };
        let labels = LabelColumns {
            reference: row.reference,
            description: row.description,
            metadata: row.metadata,
        };
        Ok(Self {
            id: RecordId::from_uuid(row.id),
            account_id: AccountId::from_uuid(row.account_id),
            user_id: row.user_id.clone().try_into().map_err(|_| invalid())?,
            kind: Kind::parse(&row.kind).ok_or_else(invalid)?,
            amount: Amount::from_decimal(row.amount, currency).map_err(|_| invalid())?,
            currency,
            labels: labels.parse().ok_or_else(invalid)?,
            settlement,
            account_seq: row.account_seq,
            api_key: row.api_key_id.map(ApiKeyId::from_uuid),
            key: unscoped(row.idempotency_key),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// The existing records among these.
///
/// # Errors
/// [`StoreError`]
pub async fn find_records(
    database: impl PgExecutor<'_>,
    ids: &[RecordId],
) -> Result<HashMap<RecordId, Result<Record, StoreError>>, StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        RecordRow,
        "SELECT id, account_id, user_id, type AS kind, amount, currency, transaction_id, reason,
                balance_after, account_seq, idempotency_key, reference, description,
                metadata::text AS metadata, api_key_id, created_at, updated_at
         FROM transaction_records WHERE id = ANY($1)",
        &ids
    )
    .fetch_all(database)
    .await?;
    let rows = rows.into_iter().map(|row| (RecordId::from_uuid(row.id), row.try_into()));
    Ok(rows.collect())
}

/// The trace contexts of these records' requests, of those that are recorded.
///
/// # Errors
/// [`StoreError`]
pub async fn find_traces(
    database: impl PgExecutor<'_>,
    ids: &[RecordId],
) -> Result<HashMap<RecordId, Trace>, StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"SELECT id, traceparent AS "traceparent!" FROM transaction_records
           WHERE id = ANY($1) AND traceparent IS NOT NULL"#,
        &ids,
    );
    let traces = rows
        .fetch_all(database)
        .await?
        .into_iter()
        .filter_map(|row| Some((RecordId::from_uuid(row.id), Trace::parse(&row.traceparent)?)));
    Ok(traces.collect())
}
