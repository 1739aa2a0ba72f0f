//! What a settled deposit takes, by process.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use load::{Answer, Pace, processor_time};

use super::end_to_end::{ACCOUNTS, deposits, warm_up};
use crate::{
    Bench, books, processes,
    runs::number,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "256 clients in a closed loop, single deposits to 10,000 accounts, two \
replicas of each service. Processor time of user and kernel, by process, over what was settled. \
Memory: the most that a service held at a time since its start. Write-ahead log and commits: the \
server's own counters over both databases, vacuum and redrive included.";

const MEMORY: &str = "most resident memory of a service, MiB";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("resources", "What a deposit takes", ABOUT, bench.quick);
    section.machine = stack.machine.clone();
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let time = Duration::from_secs(bench.size(8, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, time, Answer::Accepted);
    for _ in 0..bench.repetitions() {
        let (work, before, own) =
            (books::work(&stack.file).await?, seconds(&stack), processor_time());
        let report = stack.load(&accounts, plan).await?;
        let (after, own) = (seconds(&stack), processor_time().saturating_sub(own));
        let settled = number(report.settled.max(1));
        for (name, seconds) in after {
            let spent = seconds - before.get(&name).copied().unwrap_or_default();
            section.note(format!("{name}, core-µs"), spent * 1e6 / settled);
        }
        section.note("load, core-µs", own.as_secs_f64() * 1e6 / settled);
        let done = books::work(&stack.file).await?;
        section.note("write-ahead log, bytes", (done.wal - work.wal) / settled);
        section.note("commits", (done.commits - work.commits) / settled);
        section.note("settled a second", report.settled_per_second);
    }
    let peaks = processes::peak_memory(&stack.file);
    for (name, mebibytes) in &peaks {
        section.note(format!("{name}, MiB"), *mebibytes);
    }
    section.note(MEMORY, peaks.into_values().fold(0.0, f64::max));
    stack.finish().await?;
    let names: Vec<_> = section.figures.keys().filter(|it| *it != MEMORY).cloned().collect();
    let rows = names.into_iter().map(|name| {
        let cell = section.cell(&name);
        vec![name, cell]
    });
    let rows = rows.collect();
    section.table(&["a settled deposit", ""], rows);
    let measured = section.median(MEMORY);
    section.goals.push(Goal::new(
        "resident memory of a service under full load",
        Bound::AtMost(64.0),
        "MiB",
        measured,
    ));
    Ok(section)
}

/// By kind of process, replicas together.
fn seconds(stack: &Stack) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    for (name, seconds) in processes::processor_seconds(&stack.file) {
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
        *kinds.entry(kind.to_owned()).or_default() += seconds;
    }
    kinds
}
