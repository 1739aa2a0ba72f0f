//! Everything at once: money moves while whatever can break is broken, in an
//! order drawn from a seed; in the end nothing may be lost and nothing twice.
//!
//! The seed gives the same troubles at the same times, not the same
//! interleaving: a seed that failed is worth running often.

mod load;
mod plan;
mod report;
mod run;
mod truth;

pub use plan::{Trouble, What, plan};
pub use report::{Recovery, Report};
pub use run::{Chaos, run};

use std::time::Duration;

/// How long records may stay PENDING after the last trouble: the redrive
/// waits twice as long each time.
const SETTLED_WITHIN: Duration = Duration::from_secs(150);
