//! `make chaos`: breaks a stack on purpose, in an order drawn from a seed, and
//! holds it to what its clients were told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use tests::{
    chaos::{self, Chaos},
    stack,
};

/// Moves money while everything that can break is broken, then checks that nothing was lost and
/// nothing happened twice.
///
/// Prints what is broken when, how long each recovery took, and the seed. Exits with 1 on a
/// finding. The same seed breaks the same things at the same times.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seed of the order in which things break. Drawn when left out.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seconds things break.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Clients that move money meanwhile.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Runs with seeds that follow each other.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// With a broker of three nodes.
    #[arg(long)]
    cluster: bool,
    /// Leave the data and logs of a run with findings.
    #[arg(long)]
    keep: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let first = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let mut code = ExitCode::SUCCESS;
    for seed in first..first + arguments.runs {
        let length = Duration::from_secs(arguments.seconds);
        let chaos = Chaos::of_seed(seed, length, arguments.clients, arguments.cluster);
        let dir = stack::folder(&format!("chaos-{seed}"));
        let report = chaos::run(&chaos, &dir, arguments.keep).await;
        report.print(&chaos);
        if !report.findings.is_empty() {
            code = ExitCode::FAILURE;
        }
    }
    code
}
