//! The account-service's SQL: accounts and records.

mod accounts;
mod error;
mod insert;
mod locked;
mod pending;
mod records;
mod settle;

pub use accounts::{Account, find_account, find_owners, open_account};
pub use error::StoreError;
pub use insert::{Accepted, insert_all, insert_free, insert_unlocked};
pub use locked::settle_unlocked;
pub use pending::{Claimed, Pending, claim_for_redrive, find_pending};
pub use records::{find_records, list_records};
pub use settle::{SettleOutcome, Times, settle, settled_among};
