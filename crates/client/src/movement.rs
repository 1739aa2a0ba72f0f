//! Deposits, withdrawals and their records.

use std::time::Duration;

use contract::{AccountId, ApiKeyId, Kind, Reason, RecordId};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, serde::rfc3339};
use tokio::time::Instant;

use crate::{Cause, Client, Error, IdempotencyKey, Metadata, Page, Request, money, query};

/// The longest wait of one request. The service's own limit may be lower.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The money to move.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Movement {
    /// Above zero, with at most the decimals of the currency.
    #[serde(with = "money")]
    pub amount: Decimal,
    /// ISO 4217. A movement in another currency than the account's is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The client's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// A text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The client's own entries.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// How long the service waits for the settlement before it answers: whole seconds, 30 at most.
    /// Shorter than the time limit of a try.
    #[serde(skip)]
    pub wait: Option<Duration>,
}

impl Movement {
    /// A movement of this amount, without a wait.
    #[must_use]
    pub fn of(amount: Decimal) -> Self {
        Self { amount, ..Self::default() }
    }
}

/// The state of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Durable; its outcome is still open.
    Pending,
    /// Applied to the ledger. Final.
    Success,
    /// Refused by the ledger; it moved no money. Final.
    Failed,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
        }
    }
}

/// Why the ledger refused a movement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RefusalReason {
    /// A reason of this release.
    Known(Reason),
    /// One of a later release.
    Other(String),
}

/// One request to move money, and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its id.
    pub record_id: RecordId,
    /// The account.
    pub account_id: AccountId,
    /// The type of the movement.
    pub r#type: Kind,
    /// The amount.
    #[serde(with = "money")]
    pub amount: Decimal,
    /// ISO 4217.
    pub currency: String,
    /// The state.
    pub status: Status,
    /// Why it FAILED.
    pub reason: Option<RefusalReason>,
    /// The transaction in the ledger, once it is settled.
    pub transaction_id: Option<String>,
    /// The balance right after the movement; only of SUCCESS.
    #[serde(default, with = "money::optional")]
    pub balance_after: Option<Decimal>,
    /// The number of the movement on its account; only of SUCCESS.
    pub account_seq: Option<i64>,
    /// The key of the request.
    pub idempotency_key: String,
    /// The user that requested it.
    pub requested_by: String,
    /// The API key of the request, if it had one and the service is not an earlier release.
    pub api_key_id: Option<ApiKeyId>,
    /// The client's own name for it.
    pub reference: Option<String>,
    /// A text for people.
    pub description: Option<String>,
    /// The client's own entries.
    pub metadata: Metadata,
    /// When it was accepted.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Which records of an account to list. By default all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordFilter {
    /// With this status.
    pub status: Option<Status>,
    /// Of this type.
    pub r#type: Option<Kind>,
    /// With this reference.
    pub reference: Option<String>,
    /// With this idempotency key.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Accepted at this time or later.
    pub from: Option<OffsetDateTime>,
    /// Accepted before this time.
    pub to: Option<OffsetDateTime>,
    /// Maximum number of items of a page.
    pub limit: Option<u32>,
}

impl Client {
    /// Moves money into the account, once under this key. The record is PENDING if its settlement
    /// takes longer than the wait; [`Client::settled`] waits on.
    ///
    /// # Errors
    /// Of the last try. A refusal by the ledger is no error, but a FAILED record.
    pub async fn deposit(
        &self,
        account: AccountId,
        movement: &Movement,
        key: &IdempotencyKey,
    ) -> Result<Record, Error> {
        self.movement(format!("/v1/accounts/{account}/deposits"), movement, key).await
    }

    /// Moves money out of the account, as [`Client::deposit`].
    ///
    /// # Errors
    /// As [`Client::deposit`].
    pub async fn withdraw(
        &self,
        account: AccountId,
        movement: &Movement,
        key: &IdempotencyKey,
    ) -> Result<Record, Error> {
        self.movement(format!("/v1/accounts/{account}/withdrawals"), movement, key).await
    }

    async fn movement(
        &self,
        path: String,
        movement: &Movement,
        key: &IdempotencyKey,
    ) -> Result<Record, Error> {
        self.call(&Request::post(path, movement)?.key(key).wait(movement.wait)).await
    }

    /// The record with this id, with a wait for its settlement.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn record(&self, id: RecordId, wait: Option<Duration>) -> Result<Record, Error> {
        self.call(&Request::get(format!("/v1/records/{id}")).wait(wait)).await
    }

    /// Waits until the record is SUCCESS or FAILED.
    ///
    /// # Errors
    /// [`Cause::StillPending`] after `patience`: the record is durable, and will be settled. Others
    /// of the last try.
    pub async fn settled(&self, record: Record, patience: Duration) -> Result<Record, Error> {
        let (mut record, begun) = (record, Instant::now());
        // The answer needs time beside the wait.
        let longest = LONGEST_WAIT.min(self.timeout() / 2).max(Duration::from_secs(1));
        while record.status == Status::Pending {
            let rest = patience.saturating_sub(begun.elapsed());
            if rest.is_zero() {
                let (record, waited) = (record.record_id, begun.elapsed());
                return Err(Error::new(Cause::StillPending { record, waited }));
            }
            let wait = rest.clamp(Duration::from_secs(1), longest);
            record = self.record(record.record_id, Some(wait)).await?;
        }
        Ok(record)
    }

    /// A page of the records of an account, newest first. `cursor` is that of the page before.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn records(
        &self,
        account: AccountId,
        filter: &RecordFilter,
        cursor: Option<&str>,
    ) -> Result<Page<Record>, Error> {
        let time = |time: Option<OffsetDateTime>| {
            let text = time.map(|time| time.format(&Rfc3339)).transpose();
            text.map_err(|error| Error::invalid_request(error.to_string()))
        };
        let parameters = [
            ("status", filter.status.map(|status| status.as_str().to_owned())),
            ("type", filter.r#type.map(|kind| kind.to_string())),
            ("reference", filter.reference.clone()),
            ("idempotencyKey", filter.idempotency_key.as_ref().map(ToString::to_string)),
            ("from", time(filter.from)?),
            ("to", time(filter.to)?),
            ("limit", filter.limit.map(|limit| limit.to_string())),
            ("cursor", cursor.map(str::to_owned)),
        ];
        let path = format!("/v1/accounts/{account}/records");
        self.call(&Request::get(query::path(&path, &parameters))).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_is_a_string_and_never_a_float() {
        let amount: Decimal = "90071992547409.93".parse().unwrap();
        let movement = Movement { currency: Some("USD".into()), ..Movement::of(amount) };
        let written = json!({ "amount": "90071992547409.93", "currency": "USD" });
        assert_eq!(serde_json::to_value(&movement).unwrap(), written);
        let mut record = json!({
            "recordId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
            "accountId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
            "type": "DEPOSIT", "amount": "0.10", "currency": "USD", "status": "FAILED",
            "reason": "INSUFFICIENT_FUNDS", "transactionId": "593e2975b2183f9ed91c844ac53f8a2f", "balanceAfter": null,
            "accountSeq": null, "idempotencyKey": "k", "requestedBy": "ann", "reference": null,
            "description": null, "metadata": {}, "createdAt": "2026-11-21T21:34:55.848209Z",
            "updatedAt": "2026-11-21T21:34:55.848209Z", "colour": "of a later release",
        });
        let read: Record = serde_json::from_value(record.clone()).unwrap();
        assert_eq!(read.amount.to_string(), "0.10");
        assert_eq!(read.reason, Some(RefusalReason::Known(Reason::InsufficientFunds)));
        record["reason"] = json!("OF_A_LATER_RELEASE");
        let read: Record = serde_json::from_value(record.clone()).unwrap();
        assert_eq!(read.reason, Some(RefusalReason::Other("OF_A_LATER_RELEASE".into())));
        record["amount"] = json!(0.1);
        assert!(serde_json::from_value::<Record>(record).is_err());
    }
}
