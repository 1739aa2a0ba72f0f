//! The contents of a report, without its layout. The report-service computes a
//! document, a renderer writes it in a [`Format`]. The renderer can be another
//! process, so every type here is also a JSON form.
//!
//! A document contains no clock, no random id and no locale: the same parameters
//! over the same ledger give the same document.
//!
//! Decimals have the scale of their currency, and are strings in JSON.

mod activity;
mod decimal_text;
mod entry_file;
mod kind;
mod owned_document;
mod reconciliation;
mod render_request;
mod statement;

pub use activity::{
    Activity, Analysis, AnalysisSource, DayVolume, LargestAccount, RefusalCount, SettlementTime,
    UnusualEntries, UnusualEntry, Volume,
};
pub use entry_file::{EntryFile, EntryWriter};
pub use kind::{Format, Kind};
pub use owned_document::OwnedDocument;
pub use reconciliation::{Check, Finding, Reconciliation};
pub use render_request::{
    DocumentReference, DocumentSource, RenderRequest, RenderedReference, attempt_folder,
};
pub use statement::{Entries, Entry, Position, Statement, Total};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, serde::rfc3339};

/// The version of all layouts. A change to the bytes of a rendered file increases
/// it, so that a statement can be made again with the template of its time.
pub const TEMPLATE: u32 = 2;

/// A half-open period `[from, to)` in a named time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Period {
    /// The first instant, with the offset of the time zone at that time.
    #[serde(with = "rfc3339")]
    pub from: OffsetDateTime,
    /// The first instant after the period, with the offset of the time zone.
    #[serde(with = "rfc3339")]
    pub to: OffsetDateTime,
    /// The IANA name of the time zone.
    pub time_zone: String,
}

/// A document to render. A statement's entries are read from a file, because a
/// statement can have millions of them.
#[derive(Debug)]
pub enum Document<'a> {
    /// One account and one period.
    Statement(&'a Statement, &'a dyn Entries),
    /// All accounts in one period.
    Activity(&'a Activity),
    /// The findings of `passbook verify`.
    Reconciliation(&'a Reconciliation),
}
