//! What is measured, one file each.

mod accounts;
mod batches;
mod drain;
mod end_to_end;
mod history;
mod replicas;
mod replication;
mod resources;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{Bench, section::Section};

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// HTTP deposit until SUCCESS, beside pgbench.
    EndToEnd,
    /// The same through POST /v1/batches.
    Batches,
    /// Commands that wait, beside the one-at-a-time loop.
    Drain,
    /// One hot account, Zipf, withdrawals.
    Accounts,
    /// 1, 2 and 5 transaction-services with a slow way to the database.
    Replicas,
    /// Empty tables, and 5,000,000 records.
    History,
    /// A broker of one node, and of three.
    Replication,
    /// Processor time, memory, WAL and commits of a deposit.
    Resources,
}

impl Scenario {
    /// What a quick run measures: the rest takes longer to prepare than to
    /// measure.
    pub(crate) const FIRST_LOOK: [Self; 4] =
        [Self::EndToEnd, Self::Batches, Self::Drain, Self::Resources];

    /// All, in the order of the report.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// As it is chosen.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EndToEnd => "end-to-end",
            Self::Batches => "batches",
            Self::Drain => "drain",
            Self::Accounts => "accounts",
            Self::Replicas => "replicas",
            Self::History => "history",
            Self::Replication => "replication",
            Self::Resources => "resources",
        }
    }

    /// # Errors
    /// When something could not be measured, or the books do not balance.
    pub(crate) async fn run(self, bench: &Bench) -> Result<Section> {
        let section = match self {
            Self::EndToEnd => end_to_end::run(bench).await,
            Self::Batches => batches::run(bench).await,
            Self::Drain => drain::run(bench).await,
            Self::Accounts => accounts::run(bench).await,
            Self::Replicas => replicas::run(bench).await,
            Self::History => history::run(bench).await,
            Self::Replication => replication::run(bench).await,
            Self::Resources => resources::run(bench).await,
        };
        section.context(self.name())
    }
}
