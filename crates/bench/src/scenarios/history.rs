//! The throughput with a long history, compared with empty tables.

use std::time::{Duration, Instant};

use anyhow::Result;
use load::{Pace, WaitFor};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    bench::Bench,
    history,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single deposits to 10,000 accounts in a closed loop of 256 clients: on empty \
tables, and with settled deposits of the same accounts in both databases (20,000,000; 200,000 in a \
quick run), spread evenly over the accounts. At the end, `passbook verify` checks all of them.";

const EMPTY: &str = "empty tables, settled a second";
const FULL: &str = "with history, settled a second";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("history", "History", ABOUT, bench.quick);
    measure(bench, EMPTY, None, &mut section).await?;
    measure(bench, FULL, Some(bench.size(20_000_000, 200_000)), &mut section).await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let rows = [EMPTY, FULL].map(|name| {
        vec![name.to_owned(), section.cell(name), format!("{:.2} ×", section.ratio(name, EMPTY))]
    });
    section.table(&["", "settled a second", "relative to empty"], rows.to_vec());
    let ratio = section.ratio(FULL, EMPTY);
    let records = if section.quick { "200,000" } else { "20,000,000" };
    let name = format!("with {records} settled records, relative to empty tables");
    section.goals.push(Goal::new(&name, Bound::AtLeast(0.9), "×", ratio));
}

async fn measure(
    bench: &Bench,
    name: &str,
    rows: Option<usize>,
    section: &mut Section,
) -> Result<()> {
    let stack = Stack::start(bench, Settings::default()).await?;
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    if let Some(rows) = rows {
        let begun = Instant::now();
        history::write(&stack, &accounts, rows).await?;
        section.note("the history took, s", begun.elapsed().as_secs_f64());
    }
    warm_up(bench, &stack, &accounts).await?;
    let duration = Duration::from_secs(bench.size(6, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    for _ in 0..bench.repetitions() {
        section.note(name, stack.load(&accounts, plan).await?.settled_per_second);
    }
    stack.finish().await
}
