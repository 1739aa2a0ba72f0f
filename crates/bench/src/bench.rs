//! The options of a benchmark run.

use std::path::PathBuf;

/// The options for every scenario.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Measure shortly and once.
    pub(crate) quick: bool,
    /// Absolute directory of the report and of the stacks' data.
    pub(crate) dir: PathBuf,
}

impl Bench {
    /// The value for a full or for a quick run.
    pub(crate) const fn size<T: Copy>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Number of measurements of each figure.
    pub(crate) const fn repetitions(&self) -> usize {
        self.size(3, 1)
    }
}
