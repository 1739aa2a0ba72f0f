//! The scenarios, one file each.

mod accounts;
mod api_keys;
mod batches;
mod chains;
mod deposits;
mod drain;
mod end_to_end;
mod history;
mod idle;
mod replicas;
mod replication;
mod reports;
mod resources;
mod streams;
mod webhooks;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{bench::Bench, section::Section};

/// A scenario of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Deposits over HTTP until SUCCESS, compared with pgbench.
    EndToEnd,
    /// Deposits through POST /v1/batches, compared with pgbench.
    Batches,
    /// A backlog of commands, compared with the one-at-a-time loop.
    Drain,
    /// One hot account, a Zipf distribution, withdrawals.
    Accounts,
    /// 1, 2 and 5 transaction-services with a slow link to the database.
    Replicas,
    /// Empty tables, and 20,000,000 records.
    History,
    /// A broker with one node, and with three.
    Replication,
    /// Processor time, memory, write-ahead log and commits of a deposit.
    Resources,
    /// Processor time of a system without work.
    Idle,
    /// An activity report over 5,000,000 rows, and its effect on deposits.
    Reports,
    /// 1,000 streams of events, and their effect on deposits.
    Streams,
    /// A webhook that hangs, and its effect on the latency of deposits.
    Webhooks,
    /// Requests with an API key, compared with tokens.
    ApiKeys,
    /// The ledger's statement with and without the hash chains.
    Chains,
}

impl Scenario {
    /// The scenarios of a quick run. The others take longer to prepare than to
    /// measure.
    pub(crate) const QUICK: [Self; 4] =
        [Self::EndToEnd, Self::Batches, Self::Drain, Self::Resources];

    /// Every scenario, in the order of the report.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// The name on the command line.
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
            Self::Idle => "idle",
            Self::Reports => "reports",
            Self::Streams => "streams",
            Self::Webhooks => "webhooks",
            Self::ApiKeys => "api-keys",
            Self::Chains => "chains",
        }
    }

    /// # Errors
    /// A measurement failed, or `passbook verify` has findings.
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
            Self::Idle => idle::run(bench).await,
            Self::Reports => reports::run(bench).await,
            Self::Streams => streams::run(bench).await,
            Self::Webhooks => webhooks::run(bench).await,
            Self::ApiKeys => api_keys::run(bench).await,
            Self::Chains => chains::run(bench).await,
        };
        let mut section = section.context(self.name())?;
        self.present(&mut section);
        Ok(section)
    }

    /// Adds tables, plots and goals, which derive from the section's figures.
    pub(crate) fn present(self, section: &mut Section) {
        match self {
            Self::EndToEnd => end_to_end::present(section),
            Self::Batches => batches::present(section),
            Self::Drain => drain::present(section),
            Self::Accounts => accounts::present(section),
            Self::Replicas => replicas::present(section),
            Self::History => history::present(section),
            Self::Replication => replication::present(section),
            Self::Resources => resources::present(section),
            Self::Idle => idle::present(section),
            Self::Reports => reports::present(section),
            Self::Streams => streams::present(section),
            Self::Webhooks => webhooks::present(section),
            Self::ApiKeys => api_keys::present(section),
            Self::Chains => chains::present(section),
        }
    }
}
