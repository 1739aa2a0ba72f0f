//! The account-service's SQL: accounts and records.

mod accounts;
mod records;

pub use accounts::{Account, find_account, open_account};
pub use records::{
    Accepted, Pending, Settling, accept, claim_for_redrive, find_pending, find_record,
    list_records, settle, settled_among,
};

/// A column that holds what no writer of ours puts there.
fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} can't be read").into())
}
