//! `make chaos`: disrupts a stack in an order drawn from a seed, and checks it
//! against the responses to its clients.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use tests::{
    chaos::{self, Experiment},
    stack,
};

/// Move money while processes, links, streams and connections break, then check that nothing was
/// lost and nothing happened twice.
///
/// Prints each disruption with its time, the time to recover from it, and the seed. Exits with 1
/// on a finding. The same seed gives the same disruptions at the same times.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seed of the disruptions; random by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds in which disruptions begin.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Number of clients.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Number of runs, each with the next seed.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Use a broker of three nodes.
    #[arg(long)]
    cluster: bool,
    /// Keep the data and logs of a run with findings.
    #[arg(long)]
    keep: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let Arguments { seed, seconds, clients, runs, cluster, keep } = Arguments::parse();
    let first = seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let mut code = ExitCode::SUCCESS;
    for seed in first..first + runs {
        let length = Duration::from_secs(seconds);
        let experiment = Experiment::from_seed(seed, length, clients, cluster);
        let dir = stack::folder(&format!("chaos-{seed}"));
        let report = chaos::run(&experiment, &dir, keep).await;
        report.print(&experiment);
        if !report.findings.is_empty() {
            code = ExitCode::FAILURE;
        }
    }
    code
}
