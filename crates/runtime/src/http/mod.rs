//! The HTTP parts of every service: strict JSON bodies, problem+json, bearer
//! tokens, the layer around each request, a graceful stop, and the admin port.

mod address;
mod address_places;
pub mod admin;
pub mod api;
pub mod asset;
mod automatic;
pub mod bearer;
pub mod client;
mod connection;
pub mod database;
pub mod entity_tag;
pub mod idempotency_key;
pub mod json_body;
pub mod list;
pub mod listener;
pub mod openapi;
pub mod page;
pub mod parameter;
pub mod path_id;
mod place;
mod places;
pub mod prefer;
pub mod problem;
mod problem_type;
pub mod rate_limit;
mod refusal_log;
pub mod request_layer;
pub mod server;
mod socket;
pub mod streams;
pub mod timestamp;
mod unread;
