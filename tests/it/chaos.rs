//! Everything that can break, in orders drawn from seeds. A seed that ever
//! failed stays here.

use std::time::Duration;

use tests::{
    chaos::{self, Chaos},
    scale::size,
    stack::folder,
};

const CLIENTS: usize = 16;

async fn holds(seed: u64, cluster: bool) {
    let length = Duration::from_secs(size(120, 25));
    let chaos = Chaos::of_seed(seed, length, CLIENTS, cluster);
    let report = chaos::run(&chaos, &folder(&format!("chaos-{seed}")), false).await;
    report.print(&chaos);
    assert!(report.findings.is_empty(), "seed {seed}: {:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_1_with_one_broker() {
    holds(1, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_7_with_one_broker() {
    holds(7, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_11_with_a_cluster() {
    holds(11, true).await;
}
