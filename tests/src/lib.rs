//! The harness of the integration tests. It starts the real system as a user
//! does, talks to it over HTTP and NATS, reads its databases, and checks the
//! invariants.
//!
//! All of it is test code: it panics where a test should fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::missing_panics_doc, missing_docs)]

pub mod broker;
pub mod broker_clock;
pub mod chaos;
pub mod client;
pub mod depositors;
pub mod documented;
pub mod event_stream;
pub mod faketime;
pub mod invariants;
pub mod memory;
pub mod memory_limit;
pub mod metrics;
pub mod pending_deposits;
pub mod process;
pub mod prometheus;
pub mod raw_nats;
pub mod scale;
pub mod seaweedfs;
pub mod slow_disk;
pub mod small_disk;
pub mod stack;
pub mod standby;
pub mod wait;

pub use self::client::{Client, Response};
pub use depositors::Depositors;
pub use event_stream::EventStream;
pub use pending_deposits::PendingDeposits;
pub use stack::Stack;
pub use standby::Standby;
pub use wait::eventually;

use rust_decimal::Decimal;

/// A decimal from a JSON string.
#[must_use]
pub fn decimal(value: &serde_json::Value) -> Decimal {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).parse().unwrap()
}
