//! One node of the broker, or three that keep everything three times.

use std::time::Duration;

use anyhow::Result;
use load::{Answer, Pace};

use super::end_to_end::{ACCOUNTS, deposits, warm_up};
use crate::{
    Bench,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single deposits to 10,000 accounts in a closed loop of 256 clients: with one \
nats-server as it ships, and with three on this machine, each stream kept three times, each \
message on the disk before it is acknowledged (`sync_interval: always`).";

const R1: &str = "R1, settled a second";
const R3: &str = "R3, settled a second";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("replication", "Replication of the broker", ABOUT, bench.quick);
    measure(bench, R1, "1", &mut section).await?;
    measure(bench, R3, "3", &mut section).await?;
    let rows = [R1, R3].map(|name| {
        vec![name.to_owned(), section.cell(name), format!("{:.2} ×", section.ratio(name, R1))]
    });
    section.table(&["", "settled a second", "of R1"], rows.to_vec());
    let measured = section.ratio(R3, R1);
    let what = "R3 with sync_interval: always, of R1";
    section.goals.push(Goal::new(what, Bound::AtLeast(0.5), "×", measured));
    Ok(section)
}

async fn measure(bench: &Bench, name: &str, nodes: &str, section: &mut Section) -> Result<()> {
    let arguments = &["--nats-nodes", nodes];
    let stack = Stack::start(bench, Settings { arguments, ..Settings::default() }).await?;
    section.machine = stack.machine.clone();
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let time = Duration::from_secs(bench.size(6, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, time, Answer::Accepted);
    for _ in 0..bench.repetitions() {
        section.note(name, stack.load(&accounts, plan).await?.settled_per_second);
    }
    stack.finish().await
}
