//! What is measured, one file each.

mod end_to_end;

use anyhow::Result;
use clap::ValueEnum;

use crate::{Bench, section::Section};

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// HTTP deposit until SUCCESS, beside pgbench.
    EndToEnd,
    Drain,
}

impl Scenario {
    /// All, in the order of the report.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// As it is chosen.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EndToEnd => "end-to-end",
            Self::Drain => "drain",
        }
    }

    pub(crate) async fn run(self, bench: &Bench) -> Result<Section> {
        match self {
            Self::EndToEnd => end_to_end::run(bench).await,
            Self::Drain => end_to_end::run(bench).await,
        }
    }
}
