//! A load generator for the HTTP API. It moves money as fast as a number of
//! clients can, or at a fixed rate. It measures the accepted and settled
//! movements per second, and the latency of the requests.
//!
//! It runs on the same processors as the measured system, so it must cost very
//! little. It uses one thread, and one connection per client straight to the
//! replicas. The requests of a run are written by hand, and responses are parsed
//! only as far as they are counted. A general HTTP client costs several times as
//! much; [`Report::cpu_micros_per_request`] gives the cost of a run. Before and
//! after a run, the crate `client` opens the accounts and lists the records.

mod accounts;
mod client;
mod connection;
mod latency;
mod plan;
mod processor_time;
mod report;
mod request;
mod run;
mod sampler;
mod schedule;
mod settlement;
mod tally;
mod target;

pub use accounts::open_accounts;
pub use latency::Latency;
pub use plan::{AccountDistribution, Mix, Pace, Plan, Shape, WaitFor};
pub use processor_time::processor_time;
pub use report::Report;
pub use run::{Progress, run};
pub use settlement::{RecordCounts, SettledCounters, count_records};
pub use target::Target;
