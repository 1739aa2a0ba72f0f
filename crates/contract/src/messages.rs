//! The two messages: a command asks for a record's effect, a result carries the
//! decided outcome. `wire` has their JSON form.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

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
    /// Every reason.
    pub const ALL: [Self; 3] =
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

/// The money to move. A record, its command, its result and its transaction all
/// have the same movement; if two movements differ, they do not belong together.
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
    /// The time at which the record was accepted.
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

impl Outcome {
    /// The outcome in the columns of the ledger's transaction. `None` if they contradict each
    /// other, or one is invalid.
    #[must_use]
    pub fn from_columns(
        reason: Option<&str>,
        balance_after: Option<Decimal>,
        account_seq: Option<i64>,
        currency: Currency,
    ) -> Option<Self> {
        match (reason, balance_after, account_seq) {
            (None, Some(balance), Some(account_seq)) => {
                let balance_after = Balance::from_decimal(balance, currency)?;
                Some(Self::Applied { balance_after, account_seq })
            }
            (Some(reason), None, None) => Reason::parse(reason).map(Self::Refused),
            _ => None,
        }
    }
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
    /// The time of the ledger's decision.
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
    /// The message was published to a subject of another type.
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
