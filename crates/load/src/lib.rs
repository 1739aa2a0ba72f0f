//! Moves money over the HTTP API, as fast as a number of clients can or at a
//! fixed rate, and measures: how many movements were accepted and settled a
//! second, and how long each took.
//!
//! It runs beside what it measures, so it must cost next to nothing: one
//! thread, one connection a client, straight to the replicas, requests written
//! by hand and answers read only as far as they are counted. A general HTTP
//! client takes a multiple of that ([`Report::cpu_micros_per_request`] tells
//! what this one took).

mod accounts;
mod choice;
mod client;
mod connection;
mod cost;
mod latency;
mod plan;
mod report;
mod request;
mod run;
mod schedule;
mod settled;
mod tally;
mod target;

pub use accounts::open_accounts;
pub use cost::processor_time;
pub use latency::Latency;
pub use plan::{Answer, Choice, Mix, Pace, Plan, Shape};
pub use report::Report;
pub use run::{Progress, run};
pub use settled::{Books, Counters, books_since};
pub use target::Target;
