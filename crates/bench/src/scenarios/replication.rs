//! The throughput with one broker node, compared with three replicating nodes.

use std::time::Duration;

use anyhow::Result;
use load::{Pace, WaitFor};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    bench::Bench,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single deposits to 10,000 accounts in a closed loop of 256 clients: with one \
nats-server in its default configuration (R1), and with three on this machine (R3). With three, \
each stream is kept three times and each message is on disk before its PubAck (`sync_interval: \
always`).";

const R1: &str = "R1, settled a second";
const R3: &str = "R3, settled a second";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("replication", "Replication of the broker", ABOUT, bench.quick);
    measure(bench, R1, "1", &mut section).await?;
    measure(bench, R3, "3", &mut section).await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let rows = [R1, R3].map(|name| {
        vec![name.to_owned(), section.cell(name), format!("{:.2} ×", section.ratio(name, R1))]
    });
    section.table(&["", "settled a second", "relative to R1"], rows.to_vec());
    let ratio = section.ratio(R3, R1);
    let name = "R3 with sync_interval: always, relative to R1";
    section.goals.push(Goal::new(name, Bound::AtLeast(0.75), "×", ratio));
}

async fn measure(bench: &Bench, name: &str, nodes: &str, section: &mut Section) -> Result<()> {
    let arguments = &["--nats-nodes", nodes];
    let stack = Stack::start(bench, Settings { arguments, ..Settings::default() }).await?;
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let duration = Duration::from_secs(bench.size(6, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    for _ in 0..bench.repetitions() {
        section.note(name, stack.load(&accounts, plan).await?.settled_per_second);
    }
    stack.finish().await
}
