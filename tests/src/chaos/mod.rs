//! Everything at once: money moves while whatever can break is broken, in an
//! order drawn from a seed; in the end nothing may be lost and nothing twice.
//!
//! The seed gives the same troubles at the same times, not the same
//! interleaving: a seed that failed is worth running often.

mod load;
mod plan;
mod run;

pub use plan::{Trouble, What, plan};
pub use run::{Chaos, Recovery, Report, run};
