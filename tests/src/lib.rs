//! The harness of the integration tests: starts the real system as a user
//! would, talks to it over HTTP and NATS, looks into its databases, and checks
//! the invariants.
//!
//! It is test code: it panics where a test should fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::missing_panics_doc, missing_docs)]

pub mod broker;
pub mod chaos;
pub mod checks;
pub mod client;
pub mod memory;
pub mod metrics;
pub mod prometheus;
pub mod scale;
pub mod stack;
mod wait;

pub use client::{Answer, Client};
pub use stack::Stack;
pub use wait::eventually;

use rust_decimal::Decimal;

/// A decimal from a JSON string.
#[must_use]
pub fn decimal(value: &serde_json::Value) -> Decimal {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).parse().unwrap()
}
