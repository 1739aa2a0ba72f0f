//! The SQL of webhooks. `account_service::store` reads the log.

mod audit;
mod claim;
mod deliveries;
mod endpoints;
mod fanout;
mod replay;
mod secrets;
mod settle;
mod stats;
mod times;

pub use account_service::store::StoreError;
pub use claim::{ClaimedEndpoint, Lane, claim, end_leases, shorten_lease};
pub use deliveries::{DeliveryRow, list_deliveries};
pub use endpoints::{
    EndpointChanges, EndpointRow, EndpointToStore, Insertion, delete_endpoint, find_endpoint,
    find_endpoint_by_key, insert_endpoint, list_endpoints, update_endpoint,
};
pub use fanout::{Announced, announce, announce_late, delete_late_of_deleted, find_announced};
pub use replay::{Replay, replay};
pub use secrets::{
    CurrentKey, OldSeal, SecretRow, SecretToStore, find_current_keys, find_old_seals, find_secrets,
    replace_seal, rotate_secret,
};
pub use settle::{
    DueDelivery, EventClass, Failed, Round, Settled, count_waiting, delete_old, find_due,
    find_refused, settle,
};
pub use stats::{Backlog, EndpointCounts, count_endpoints_by_state, find_backlog};
pub use times::cap_times;
