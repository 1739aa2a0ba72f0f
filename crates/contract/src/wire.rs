//! The JSON form of the messages: camelCase, amounts as strings. Unknown fields
//! are ignored, so that newer versions can add fields. A missing or malformed field
//! makes a message invalid.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize, de, ser};
use time::{OffsetDateTime, serde::rfc3339};

use crate::{
    AccountId, Amount, Balance, Command, Currency, Kind, Outcome, Reason, RecordId,
    TransactionResult, UserId,
};

/// Serializes through `Display`, without a `String` in between.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommandRead<'a> {
    record_id: RecordId,
    account_id: AccountId,
    user_id: UserId,
    r#type: Kind,
    #[serde(borrow)]
    amount: Cow<'a, str>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(with = "rfc3339")]
    requested_at: OffsetDateTime,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommandWritten<'a> {
    record_id: RecordId,
    account_id: AccountId,
    user_id: &'a str,
    r#type: Kind,
    amount: Shown<Amount>,
    currency: &'static str,
    #[serde(with = "rfc3339")]
    requested_at: OffsetDateTime,
}

impl Serialize for Command {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        CommandWritten {
            record_id: self.record_id,
            account_id: self.account_id,
            user_id: self.user_id.as_str(),
            r#type: self.kind,
            amount: Shown(self.amount),
            currency: self.currency.code(),
            requested_at: self.requested_at,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = CommandRead::deserialize(deserializer)?;
        let currency = Currency::parse(&wire.currency).map_err(|e| invalid("currency", e))?;
        Ok(Self {
            record_id: wire.record_id,
            account_id: wire.account_id,
            user_id: wire.user_id,
            kind: wire.r#type,
            amount: Amount::parse(&wire.amount, currency).map_err(|e| invalid("amount", e))?,
            currency,
            requested_at: wire.requested_at,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum StatusWire {
    Success,
    Failed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultRead<'a> {
    record_id: RecordId,
    transaction_id: i64,
    account_id: AccountId,
    r#type: Kind,
    #[serde(borrow)]
    amount: Cow<'a, str>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    status: StatusWire,
    reason: Option<Reason>,
    #[serde(borrow)]
    balance_after: Option<Cow<'a, str>>,
    account_seq: Option<i64>,
    #[serde(with = "rfc3339")]
    processed_at: OffsetDateTime,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultWritten {
    record_id: RecordId,
    transaction_id: i64,
    account_id: AccountId,
    r#type: Kind,
    amount: Shown<Amount>,
    currency: &'static str,
    status: StatusWire,
    reason: Option<Reason>,
    balance_after: Option<Shown<Balance>>,
    account_seq: Option<i64>,
    #[serde(with = "rfc3339")]
    processed_at: OffsetDateTime,
}

impl Serialize for TransactionResult {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, reason, balance_after, account_seq) = match self.outcome {
            Outcome::Applied { balance_after, account_seq } => {
                (StatusWire::Success, None, Some(Shown(balance_after)), Some(account_seq))
            }
            Outcome::Refused(reason) => (StatusWire::Failed, Some(reason), None, None),
        };
        ResultWritten {
            record_id: self.record_id,
            transaction_id: self.transaction_id,
            account_id: self.account_id,
            r#type: self.kind,
            amount: Shown(self.amount),
            currency: self.currency.code(),
            status,
            reason,
            balance_after,
            account_seq,
            processed_at: self.processed_at,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TransactionResult {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = ResultRead::deserialize(deserializer)?;
        let currency = Currency::parse(&wire.currency).map_err(|e| invalid("currency", e))?;
        let outcome = match (wire.status, wire.reason, wire.balance_after, wire.account_seq) {
            (StatusWire::Success, None, Some(balance), Some(account_seq)) if account_seq > 0 => {
                let balance_after = Balance::parse(&balance, currency)
                    .ok_or_else(|| invalid("balanceAfter", "must be a balance of the currency"))?;
                Outcome::Applied { balance_after, account_seq }
            }
            (StatusWire::Failed, Some(reason), None, None) => Outcome::Refused(reason),
            _ => {
                return Err(de::Error::custom(
                    "status SUCCESS requires balanceAfter and a positive accountSeq, status FAILED \
                     requires a reason, and each excludes the fields of the other",
                ));
            }
        };
        if wire.transaction_id <= 0 {
            return Err(invalid("transactionId", "must be greater than zero"));
        }
        Ok(Self {
            record_id: wire.record_id,
            transaction_id: wire.transaction_id,
            account_id: wire.account_id,
            kind: wire.r#type,
            amount: Amount::parse(&wire.amount, currency).map_err(|e| invalid("amount", e))?,
            currency,
            outcome,
            processed_at: wire.processed_at,
        })
    }
}

fn invalid<E: de::Error>(field: &str, why: impl fmt::Display) -> E {
    E::custom(format_args!("{field}: {why}"))
}
