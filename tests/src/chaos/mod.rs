//! Chaos tests: clients move money while processes, links, streams and
//! connections break, in an order drawn from a seed. In the end nothing may be
//! lost and nothing may have happened twice.
//!
//! A seed gives the same disruptions at the same times, but not the same
//! interleaving. A seed that failed once is therefore worth running many times.

mod checker;
mod databases;
mod draw;
mod events;
mod load;
mod messages;
mod plan;
mod report;
mod runner;
mod streams;

pub use plan::{Action, Disruption, Experiment};
pub use report::{Recovery, Report};
pub use runner::run;
