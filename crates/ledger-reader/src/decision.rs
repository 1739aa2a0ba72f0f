//! The ledger's decision about one record.

use contract::{AccountId, Amount, Currency, Kind, Outcome, RecordId, TransactionResult};
use rust_decimal::Decimal;
use sqlx::types::Uuid;
use time::OffsetDateTime;

use crate::{HistoryError, Ledger};

struct DecisionRow {
    id: i64,
    account_id: Uuid,
    kind: String,
    amount: Decimal,
    currency: String,
    reason: Option<String>,
    balance_after: Option<Decimal>,
    account_seq: Option<i64>,
    created_at: OffsetDateTime,
}

impl Ledger {
    /// The decision about a record, as its result reports it. `None` if there is none yet.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub async fn decision(
        &self,
        record: RecordId,
    ) -> Result<Option<TransactionResult>, HistoryError> {
        let row = sqlx::query_as!(
            DecisionRow,
            r#"SELECT id AS "id!", account_id AS "account_id!", type AS "kind!",
                      amount AS "amount!", currency AS "currency!", reason, balance_after,
                      account_seq, created_at AS "created_at!"
               FROM reporting.transactions WHERE record_id = $1"#,
            record.as_uuid()
        )
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (id, account) = (row.id, AccountId::from_uuid(row.account_id));
        let result = row.result(record).ok_or_else(|| HistoryError::Inconsistent {
            account,
            finding: format!("transaction {id} has an invalid value"),
        });
        result.map(Some)
    }
}

impl DecisionRow {
    fn result(self, record_id: RecordId) -> Option<TransactionResult> {
        let currency = Currency::parse(&self.currency).ok()?;
        let (reason, balance, seq) = (self.reason.as_deref(), self.balance_after, self.account_seq);
        let outcome = Outcome::from_columns(reason, balance, seq, currency)?;
        Some(TransactionResult {
            record_id,
            transaction_id: self.id,
            account_id: AccountId::from_uuid(self.account_id),
            kind: Kind::parse(&self.kind)?,
            amount: Amount::from_decimal(self.amount, currency).ok()?,
            currency,
            outcome,
            processed_at: self.created_at,
        })
    }
}
