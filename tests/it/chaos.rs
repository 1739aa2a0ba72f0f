//! Chaos experiments with fixed seeds: each failed once. A fault found by another seed has a
//! shorter test of its own.

use std::time::Duration;

use tests::{
    chaos::{self, Experiment},
    scale::size,
    stack::initialized_folder,
};

const CLIENTS: usize = 16;

async fn invariants_hold(seed: u64, cluster: bool) {
    let length = Duration::from_secs(size(120, 25));
    let experiment = Experiment::from_seed(seed, length, CLIENTS, cluster);
    let report =
        chaos::run(&experiment, &initialized_folder(&format!("chaos-{seed}")).await, false).await;
    report.print(&experiment);
    assert!(report.findings.is_empty(), "seed {seed}: {:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_1_with_one_broker() {
    invariants_hold(1, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_7_with_one_broker() {
    invariants_hold(7, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_11_with_a_cluster() {
    invariants_hold(11, true).await;
}
