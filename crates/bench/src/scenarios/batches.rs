//! Deposits through `POST /v1/batches`.

use std::time::Duration;

use anyhow::Result;
use load::{Pace, Plan, Shape, WaitFor};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    bench::Bench,
    bystander,
    pgbench::{Pgbench, TPS_FIGURE},
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Deposits to 10,000 accounts, several in each request to `POST /v1/batches`, in \
a closed loop; two replicas of each money service. A webhook endpoint and a stream of events of \
another owner are open. `pgbench -N -c 32`, scale 10, runs in turn with each \
repetition on the same server.";

const GOAL: &str = "settled deposits a second through batches of 100, relative to pgbench -N";
/// Number of clients, and movements per request.
const SHAPES: [(u16, u16); 3] = [GOAL_SHAPE, (4, 1000), (16, 1000)];
const GOAL_SHAPE: (u16, u16) = (16, 100);

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("batches", "Batches", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    let duration = Duration::from_secs(bench.size(5, 2));
    let plan = |(clients, movements): (u16, u16)| Plan {
        shape: Shape::Batch(movements),
        ..deposits(Pace::Closed { clients }, duration, WaitFor::Accepted)
    };
    let pgbench = Pgbench::prepare(&stack.file).await?;
    let _bystander = bystander::follow(&stack).await?;
    warm_up(bench, &stack, &accounts).await?;
    for _ in 0..bench.repetitions() {
        section.note(TPS_FIGURE, pgbench.measure(32, bench.size(6, 4)).await?.tps);
        for shape in SHAPES {
            let report = stack.load(&accounts, plan(shape)).await?;
            section.note(figure(shape, "settled a second"), report.settled_per_second);
            section.note(figure(shape, "answer p50, ms"), report.latency.p50);
            section.note(figure(shape, "answer p99, ms"), report.latency.p99);
        }
    }
    stack.finish().await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let row = |shape: (u16, u16)| {
        let cell = |name| section.cell(&figure(shape, name));
        let [settled, p50, p99] =
            ["settled a second", "answer p50, ms", "answer p99, ms"].map(cell);
        let ratio =
            format!("{:.2} ×", section.ratio(&figure(shape, "settled a second"), TPS_FIGURE));
        vec![shape.0.to_string(), shape.1.to_string(), settled, ratio, p50, p99]
    };
    let rows = SHAPES.map(row).to_vec();
    let headings =
        ["clients", "in a batch", "settled a second", "relative to pgbench", "p50, ms", "p99"];
    section.table(&headings, rows);
    section.table(&["yardstick", ""], vec![vec![TPS_FIGURE.into(), section.cell(TPS_FIGURE)]]);
    let ratio = section.ratio(&figure(GOAL_SHAPE, "settled a second"), TPS_FIGURE);
    section.goals.push(Goal::new(GOAL, Bound::AtLeast(5.0), "×", ratio));
}

fn figure((clients, movements): (u16, u16), name: &str) -> String {
    format!("{clients} clients, {movements} in a batch: {name}")
}
