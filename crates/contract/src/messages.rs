//! The two messages: a command asks for a record's effect, a result carries the
//! decided outcome. JSON, camelCase, amounts as strings. Unknown fields are
//! ignored, so that a newer writer can add some. Missing or impossible fields
//! make a message invalid.

use std::{borrow::Cow, fmt};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, de, ser};
use time::{OffsetDateTime, serde::rfc3339};

use crate::{AccountId, Amount, Balance, Currency, RecordId, UserId, subjects};

/// The type of a movement: `type` on the wire and in columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// Into the account.
    Deposit,
    /// Out of the account.
    Withdrawal,
}

impl Kind {
    /// Both types.
    pub const ALL: [Self; 2] = [Self::Deposit, Self::Withdrawal];

    /// The name on the wire and in columns.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "DEPOSIT",
            Self::Withdrawal => "WITHDRAWAL",
        }
    }

    /// The type with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The subject of commands of this type.
    #[must_use]
    pub const fn command_subject(self) -> &'static str {
        match self {
            Self::Deposit => subjects::DEPOSIT,
            Self::Withdrawal => subjects::WITHDRAWAL,
        }
    }

    /// The subject of results of this type.
    #[must_use]
    pub const fn result_subject(self) -> &'static str {
        match self {
            Self::Deposit => subjects::RESULT_DEPOSIT,
            Self::Withdrawal => subjects::RESULT_WITHDRAWAL,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the ledger refused a command. Checked in this order: the first reason
/// that applies is the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// The ledger holds the account in another currency.
    CurrencyMismatch,
    /// A deposit would bring the balance to 10^18 or more.
    BalanceLimitExceeded,
    /// A withdrawal would bring the balance below zero.
    InsufficientFunds,
}

impl Reason {
    const ALL: [Self; 3] =
        [Self::CurrencyMismatch, Self::BalanceLimitExceeded, Self::InsufficientFunds];

    /// The name on the wire and in columns.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CurrencyMismatch => "CURRENCY_MISMATCH",
            Self::BalanceLimitExceeded => "BALANCE_LIMIT_EXCEEDED",
            Self::InsufficientFunds => "INSUFFICIENT_FUNDS",
        }
    }

    /// The reason with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a record, a command, a result and a transaction have in common: the
/// money to move. They belong together only if their movements are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// The account whose balance moves.
    pub account_id: AccountId,
    /// Deposit or withdrawal.
    pub kind: Kind,
    /// The positive amount.
    pub amount: Amount,
    /// The account's currency.
    pub currency: Currency,
}

/// Asks the ledger for the effect of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The record: its effect happens once, under this id.
    pub record_id: RecordId,
    /// The account whose balance moves.
    pub account_id: AccountId,
    /// The user behind the request.
    pub user_id: UserId,
    /// Deposit or withdrawal.
    pub kind: Kind,
    /// The positive amount.
    pub amount: Amount,
    /// The account's currency.
    pub currency: Currency,
    /// When the record was accepted.
    pub requested_at: OffsetDateTime,
}

/// The ledger's decision about a record. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The balance moved.
    Applied {
        /// The balance right after this transaction.
        balance_after: Balance,
        /// The transaction's number among the account's applied ones: 1, 2, 3 …
        account_seq: i64,
    },
    /// The balance did not move.
    Refused(Reason),
}

/// Carries the decided outcome of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionResult {
    /// The record.
    pub record_id: RecordId,
    /// The ledger's id of the transaction, greater than zero.
    pub transaction_id: i64,
    /// The account of the command.
    pub account_id: AccountId,
    /// Deposit or withdrawal.
    pub kind: Kind,
    /// The amount of the command.
    pub amount: Amount,
    /// The currency of the command.
    pub currency: Currency,
    /// The decision.
    pub outcome: Outcome,
    /// When the ledger decided.
    pub processed_at: OffsetDateTime,
}

/// Why a message is invalid: it will never succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// The body is not JSON of the contract's form.
    #[error("not a {expected}: {detail}")]
    Body {
        /// `command` or `result`.
        expected: &'static str,
        /// What is wrong, and where.
        detail: String,
    },
    /// The message was published to another subject than its type asks for.
    #[error("a {expected} of type {kind} on the subject {subject}")]
    Subject {
        /// `command` or `result`.
        expected: &'static str,
        /// The type in the body.
        kind: Kind,
        /// The subject that it was published to.
        subject: String,
    },
}

impl InvalidMessage {
    fn body(expected: &'static str) -> impl Fn(serde_json::Error) -> Self {
        move |error| Self::Body { expected, detail: error.to_string() }
    }
}

impl Command {
    /// Parses the body of a message and checks that it fits the message's
    /// subject.
    ///
    /// # Errors
    /// [`InvalidMessage`]
    pub fn parse(subject: &str, body: &[u8]) -> Result<Self, InvalidMessage> {
        const EXPECTED: &str = "command";
        let command: Self = serde_json::from_slice(body).map_err(InvalidMessage::body(EXPECTED))?;
        if command.kind.command_subject() == subject {
            Ok(command)
        } else {
            let (expected, subject) = (EXPECTED, subject.to_owned());
            Err(InvalidMessage::Subject { expected, kind: command.kind, subject })
        }
    }

    /// The money to move.
    #[must_use]
    pub const fn movement(&self) -> Movement {
        let Self { account_id, kind, amount, currency, .. } = *self;
        Movement { account_id, kind, amount, currency }
    }
}

impl TransactionResult {
    /// Parses the body of a message and checks that it fits the message's
    /// subject.
    ///
    /// # Errors
    /// [`InvalidMessage`]
    pub fn parse(subject: &str, body: &[u8]) -> Result<Self, InvalidMessage> {
        const EXPECTED: &str = "result";
        let result: Self = serde_json::from_slice(body).map_err(InvalidMessage::body(EXPECTED))?;
        if result.kind.result_subject() == subject {
            Ok(result)
        } else {
            let (expected, subject) = (EXPECTED, subject.to_owned());
            Err(InvalidMessage::Subject { expected, kind: result.kind, subject })
        }
    }

    /// The money that the command asked to move.
    #[must_use]
    pub const fn movement(&self) -> Movement {
        let Self { account_id, kind, amount, currency, .. } = *self;
        Movement { account_id, kind, amount, currency }
    }
}

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
                let balance_after = Decimal::from_str_exact(&balance)
                    .ok()
                    .and_then(|value| Balance::from_decimal(value, currency))
                    .ok_or_else(|| invalid("balanceAfter", "must be a balance of the currency"))?;
                Outcome::Applied { balance_after, account_seq }
            }
            (StatusWire::Failed, Some(reason), None, None) => Outcome::Refused(reason),
            _ => {
                return Err(de::Error::custom(
                    "status SUCCESS goes with balanceAfter and a positive accountSeq, status \
                     FAILED with a reason, and neither with the other's",
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
