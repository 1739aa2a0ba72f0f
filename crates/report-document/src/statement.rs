//! The statement of one account.

use std::{fmt::Debug, io};

use contract::{AccountId, Kind as MovementKind, RecordId, TransactionId};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};

use crate::{Period, decimal_text};

/// A statement without its entries. The closing balance is the opening balance
/// plus the credits minus the debits, and equals the ledger's balance at
/// `closing.account_seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// The version of the layout.
    pub template: u32,
    /// The institution that issues the statement.
    pub issuer: String,
    /// The account.
    pub account_id: AccountId,
    /// The user who owns the account.
    pub owner_id: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Decimal places of the currency: 0 to 4.
    pub exponent: u32,
    /// The period.
    pub period: Period,
    /// The balance before the first entry.
    pub opening: Position,
    /// The balance after the last entry.
    pub closing: Position,
    /// All deposits.
    pub credits: Total,
    /// All withdrawals.
    pub debits: Total,
}

impl Statement {
    /// The number of entries.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.credits.count.saturating_add(self.debits.count)
    }
}

/// A balance and its place in the account's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The balance.
    #[serde(with = "decimal_text")]
    pub balance: Decimal,
    /// The number of applied transactions until then.
    pub account_seq: i64,
}

/// The number of entries, and the sum of their amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    /// The number of entries.
    pub count: u64,
    /// The sum of the amounts, not negative.
    #[serde(with = "decimal_text")]
    pub amount: Decimal,
}

/// One applied transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number in the account: 1, 2, 3 …
    pub account_seq: i64,
    /// The id of the ledger's decision.
    pub transaction_id: TransactionId,
    /// The record that it settled.
    pub record_id: RecordId,
    /// Deposit or withdrawal.
    pub r#type: MovementKind,
    /// The amount, positive.
    #[serde(with = "decimal_text")]
    pub amount: Decimal,
    /// The balance after it.
    #[serde(with = "decimal_text")]
    pub balance_after: Decimal,
    /// When the ledger applied it, with the offset of the period's time zone.
    #[serde(with = "rfc3339")]
    pub at: OffsetDateTime,
    /// The client's own name for the movement.
    pub reference: Option<String>,
    /// The client's note.
    pub description: Option<String>,
}

/// The entries of a statement, in order. They can be read several times.
pub trait Entries: Debug + Sync {
    /// Reads from the first entry on.
    ///
    /// # Errors
    /// If the entries can't be read.
    fn open(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<Entry>> + '_>>;
}

impl Entries for [Entry] {
    fn open(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<Entry>> + '_>> {
        Ok(Box::new(self.iter().cloned().map(Ok)))
    }
}

impl Entries for Vec<Entry> {
    fn open(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<Entry>> + '_>> {
        self.as_slice().open()
    }
}
