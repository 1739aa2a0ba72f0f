//! Reads the figures of reports from the `reporting` views of the ledger and of the
//! account-service.
//!
//! The figures of a period never change once the period is final: every transaction
//! with a time before its end has ended. [`Ledger::snapshot`] waits for that,
//! and every figure of a report is read from the one snapshot that it returns.

pub mod accounts;
pub mod activity;
pub mod analysis;
pub mod labels;
pub mod period;
pub mod statement;

pub use accounts::{AccountInfo, Accounts};
pub use labels::{Labels, LabelsError};
pub use ledger_reader::{Ledger, LedgerError, Snapshot};
pub use period::{Period, PeriodError};
pub use statement::{StatementError, StatementSources, opened_at, position, statement};
