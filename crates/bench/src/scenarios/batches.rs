//! Deposits through `POST /v1/batches`.

use std::time::Duration;

use anyhow::{Result, ensure};
use load::{Answer, Pace, Plan, Shape};

use super::end_to_end::{ACCOUNTS, PGBENCH, deposits, warm_up};
use crate::{
    Bench,
    pgbench::Pgbench,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Deposits to 10,000 accounts, several in a request to `POST /v1/batches`, in a \
closed loop; two replicas of each service. In turn with each repetition, `pgbench -N -c 32`, \
scale 10, on the same server.";

const GOAL: &str = "settled deposits a second through batches, of pgbench -N";
/// Clients, and movements in each request.
const SHAPES: [(u16, u16); 3] = [(16, 100), (4, 1000), (16, 1000)];

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("batches", "Batches", ABOUT, bench.quick);
    section.machine = stack.machine.clone();
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    let time = Duration::from_secs(bench.size(5, 2));
    let plan = |(clients, movements): (u16, u16)| Plan {
        shape: Shape::Batch(movements),
        ..deposits(Pace::Closed { clients }, time, Answer::Accepted)
    };
    let first = load::run(
        &stack.target,
        &accounts,
        Plan { time: Duration::from_millis(100), ..plan((1, 10)) },
        |_| {},
    )
    .await?;
    if first.statuses.contains_key(&404) {
        section.about.push_str(" This build does not serve it: nothing was measured.");
        section.goals.push(Goal::new(GOAL, Bound::AtLeast(4.0), "×", 0.0));
        stack.finish().await?;
        return Ok(section);
    }
    ensure!(first.is_clean(), "a batch is not accepted: {:?}", first.samples);
    let pgbench = Pgbench::prepare(&stack.file).await?;
    warm_up(bench, &stack, &accounts).await?;
    for _ in 0..bench.repetitions() {
        section.note(PGBENCH, pgbench.measure(32, bench.size(6, 4)).await?.tps);
        for shape in SHAPES {
            let report = stack.load(&accounts, plan(shape)).await?;
            section.note(of(shape, "settled a second"), report.settled_per_second);
            section.note(of(shape, "answer p50, ms"), report.latency.p50);
            section.note(of(shape, "answer p99, ms"), report.latency.p99);
        }
    }
    stack.finish().await?;
    let row = |shape: (u16, u16)| {
        let cell = |what| section.cell(&of(shape, what));
        let figures = ["settled a second", "answer p50, ms", "answer p99, ms"].map(cell);
        let times = format!("{:.2} ×", section.ratio(&of(shape, "settled a second"), PGBENCH));
        let [settled, p50, p99] = figures;
        vec![shape.0.to_string(), shape.1.to_string(), settled, times, p50, p99]
    };
    let rows = SHAPES.map(row).to_vec();
    let headings = ["clients", "in a batch", "settled a second", "of pgbench", "p50, ms", "p99"];
    section.table(&headings, rows);
    section.table(&["yardstick", ""], vec![vec![PGBENCH.into(), section.cell(PGBENCH)]]);
    let times = SHAPES.map(|shape| section.ratio(&of(shape, "settled a second"), PGBENCH));
    let highest = times.into_iter().fold(0.0, f64::max);
    section.goals.push(Goal::new(GOAL, Bound::AtLeast(4.0), "×", highest));
    Ok(section)
}

fn of((clients, movements): (u16, u16), what: &str) -> String {
    format!("{clients} clients, {movements} in a batch: {what}")
}
