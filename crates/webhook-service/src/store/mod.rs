//! The SQL of webhooks. `account_service::store` reads the log.

mod claim;
mod endpoints;
mod fanout;
mod secrets;
mod settle;

pub use account_service::store::StoreError;
pub use claim::{ClaimedEndpoint, Lane, claim};
pub use endpoints::{
    EndpointChanges, EndpointRow, EndpointToStore, Insertion, delete_endpoint, find_endpoint,
    find_endpoint_by_key, insert_endpoint, list_endpoints, replay_after, replay_event,
    update_endpoint,
};
pub use fanout::{announce, find_announced};
pub use secrets::{
    CurrentKey, SecretRow, SecretToStore, find_current_keys, find_secrets, rotate_secret,
};
pub use settle::{DueDelivery, Failed, Round, count_waiting, delete_old, find_due, settle};
