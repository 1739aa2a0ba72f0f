//! The audit log: who did what to which resource. Rows are only added, each by the statement or
//! transaction that does what it tells.
//!
//! The account and the report database have a log each. The tables are the same, so the statements
//! and the view are here; the actions are each service's own.

mod entry;
mod list;
mod page;

pub use entry::{Actor, Details, add};
pub use list::{AuditFilter, AuditRow, list};
pub use page::{AuditPage, AuditQuery, PARAMETERS, respond};
