//! The account-service's SQL: accounts and records.

mod account_keys;
mod accounts;
mod api_keys;
mod audit_log;
mod columns;
mod error;
mod events;
mod insert;
mod key_scope;
mod labels;
mod locked;
mod pending;
mod pending_amounts;
mod record_list;
mod records;
mod settle;
mod window;

pub use account_keys::{NewAccount, Opened, open_account_once};
pub use accounts::{
    Account, find_account, find_accounts, find_owners, list_accounts, list_accounts_by_reference,
    list_accounts_of, open_account,
};
pub use api_keys::{
    ApiKeyRequest, ApiKeyRow, Creation, KeyToStore, create_api_key, find_api_keys, find_creation,
    list_api_keys, revoke_api_key,
};
pub use audit_log::AuditAction;
pub use error::StoreError;
pub use events::{
    EventMark, FenceState, LogEnd, LogRange, UnownedEvent, find_event, find_event_id_key,
    find_events, find_fence, find_log_end, has_more_accounts, list_events, list_events_of_account,
    list_events_of_owner,
};
pub use insert::{Accepted, insert_all, insert_free, insert_unlocked};
pub use locked::settle_unlocked;
pub use pending::{Claimed, Listed, claim_for_redrive, read_list, redrive_within};
pub use pending_amounts::{
    LedgerBalance, PendingAmounts, SeenInLedger, find_account_beside_ledger,
    find_account_with_pending,
};
pub use record_list::{Listing, RecordFilter, find_by_key, list_records};
pub use records::{find_records, find_traces};
pub use settle::{SettleOutcome, Times, account_seq, settle, settled_among};
pub use window::{Leave, Window, WindowView, fence, find_window, leave, list_early};
