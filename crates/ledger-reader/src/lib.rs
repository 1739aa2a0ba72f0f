//! Reads the ledger from its `reporting` views, for reports and for requests: an account's balance
//! at a past instant, its present balance, and the decisions about records.
//!
//! A statement and a request for a past balance must agree, so both use [`History`]. It finds
//! an instant among the numbers of an account by binary search. [`Ledger::snapshot`] waits until
//! the past is final.
//!
//! Nothing here writes: every session is read-only.

mod account;
mod decision;
mod history;
mod pool;
mod snapshot;

pub use account::LedgerAccount;
pub use history::{EntryRow, History, HistoryError, Position, TOLERANCE, invalid_balance};
pub use pool::{InvalidUrl, report_pool};
pub use snapshot::{Ledger, LedgerError, READ_LIMIT, REPLICA_MARGIN, Snapshot, limited};
