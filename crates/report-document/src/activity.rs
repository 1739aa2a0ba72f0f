//! The activity of all accounts in one period.

use contract::{AccountId, Kind as MovementKind, RecordId, TransactionId};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};

use crate::{Period, decimal_text};

/// The figures of a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// The version of the layout.
    pub template: u32,
    /// The institution that issues the report.
    pub issuer: String,
    /// The period.
    pub period: Period,
    /// Applied movements by type and currency, ordered by both.
    pub totals: Vec<Volume>,
    /// Applied movements by day, type and currency, ordered by all three. Days
    /// without movements are left out.
    pub days: Vec<DayVolume>,
    /// Refused movements by reason and type, ordered by both.
    pub refusals: Vec<RefusalCount>,
    /// The accounts with the largest volume in each currency, largest first.
    pub largest_accounts: Vec<LargestAccount>,
    /// Entries of unusual size.
    pub unusual: UnusualEntries,
    /// From the request to the ledger's decision.
    pub settlement: SettlementTime,
    /// The prose, if it was asked for.
    pub analysis: Option<Analysis>,
}

/// Movements of one type in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// ISO 4217 code.
    pub currency: String,
    /// Deposit or withdrawal.
    pub r#type: MovementKind,
    /// The number of movements.
    pub count: u64,
    /// The sum of the amounts.
    #[serde(with = "decimal_text")]
    pub amount: Decimal,
}

/// The movements of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DayVolume {
    /// The day in the period's time zone: `2026-03-29`.
    pub day: String,
    /// The movements.
    #[serde(flatten)]
    pub volume: Volume,
}

/// The refusals of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalCount {
    /// The ledger's reason, such as `INSUFFICIENT_FUNDS`.
    pub reason: String,
    /// Deposit or withdrawal.
    pub r#type: MovementKind,
    /// The number of refused movements.
    pub count: u64,
}

/// An account with a large volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LargestAccount {
    /// ISO 4217 code.
    pub currency: String,
    /// The account.
    pub account_id: AccountId,
    /// The number of its movements.
    pub count: u64,
    /// The sum of its deposits.
    #[serde(with = "decimal_text")]
    pub credits: Decimal,
    /// The sum of its withdrawals.
    #[serde(with = "decimal_text")]
    pub debits: Decimal,
}

/// Entries of unusual size, and how they were found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnusualEntries {
    /// The method, in one or two sentences for a reader of the report.
    pub method: String,
    /// The number of unusual entries, listed or not.
    pub count: u64,
    /// The most unusual entries, most unusual first.
    pub items: Vec<UnusualEntry>,
}

/// An entry of unusual size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnusualEntry {
    /// The account.
    pub account_id: AccountId,
    /// The id of the ledger's decision.
    pub transaction_id: TransactionId,
    /// The record.
    pub record_id: RecordId,
    /// Deposit or withdrawal.
    pub r#type: MovementKind,
    /// ISO 4217 code.
    pub currency: String,
    /// The amount.
    #[serde(with = "decimal_text")]
    pub amount: Decimal,
    /// When the ledger applied it, with the offset of the period's time zone.
    #[serde(with = "rfc3339")]
    pub at: OffsetDateTime,
    /// How unusual it is; the method gives the meaning.
    pub score: f64,
}

/// The distribution of the time from a request to the ledger's decision, in
/// milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementTime {
    /// The number of decided movements.
    pub count: u64,
    /// The median.
    pub p50_ms: u64,
    /// 90 of 100 took at most this long.
    pub p90_ms: u64,
    /// 99 of 100 took at most this long.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

/// Prose about the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// The author.
    pub source: AnalysisSource,
    /// The name of the language model, if it is the author.
    pub model: Option<String>,
    /// Why the rules wrote it although a model is configured.
    pub note: Option<String>,
    /// The paragraphs.
    pub paragraphs: Vec<String>,
}

/// The author of an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnalysisSource {
    /// Rules of this program.
    Rules,
    /// A language model; every number was found in the figures.
    Model,
}
