//! The account-service's SQL: accounts and records.

mod accepting;
mod accounts;
mod pending;
mod records;
mod settling;

pub use accepting::{Accepted, accept, accept_all};
pub use accounts::{Account, find_account, open_account, owners};
pub use pending::{Claimed, Pending, claim_for_redrive, find_pending};
pub use records::{find_records, list_records};
pub use settling::{Settling, Times, settle, settled_among};

/// A column that holds what no writer of ours puts there.
fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} can't be read").into())
}
