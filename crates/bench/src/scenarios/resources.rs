//! The resources of a settled deposit, by process.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use load::{Pace, WaitFor, processor_time};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    bench::Bench,
    database_figures::server_counters,
    processes,
    runs::number,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str =
    "256 clients in a closed loop, single deposits to 10,000 accounts, two replicas \
of each service.

- Processor time: user and kernel time of each process, divided by the settled records.
- Memory: the peak of each service since its start.
- Write-ahead log and commits: the server's own counters for both databases, including vacuum and \
redrive.";

const BROKER: &str = "nats, core-µs";
const MEMORY: &str = "most resident memory of a service, MiB";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("resources", "What a deposit takes", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let duration = Duration::from_secs(bench.size(8, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    for _ in 0..bench.repetitions() {
        let counters = server_counters(&stack.file).await?;
        let (before, own_before) = (seconds_by_service(&stack), processor_time());
        let report = stack.load(&accounts, plan).await?;
        let after = seconds_by_service(&stack);
        let own = processor_time().saturating_sub(own_before);
        let settled = number(report.settled.max(1));
        for (name, seconds) in after {
            let spent = seconds - before.get(&name).copied().unwrap_or_default();
            section.note(format!("{name}, core-µs"), spent * 1e6 / settled);
        }
        section.note("load, core-µs", own.as_secs_f64() * 1e6 / settled);
        let counted = server_counters(&stack.file).await?;
        let wal_bytes = counted.wal_bytes - counters.wal_bytes;
        section.note("write-ahead log, bytes", wal_bytes / settled);
        section.note("commits", (counted.commits - counters.commits) / settled);
        section.note("settled a second", report.settled_per_second);
    }
    let peaks = processes::peak_memory(&stack.file);
    for (name, mebibytes) in &peaks {
        section.note(format!("{name}, MiB"), *mebibytes);
    }
    section.note(MEMORY, peaks.into_values().fold(0.0, f64::max));
    stack.finish().await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let names: Vec<_> = section.figures.keys().filter(|name| *name != MEMORY).cloned().collect();
    let rows = names.into_iter().map(|name| {
        let cell = section.cell(&name);
        vec![name, cell]
    });
    let rows = rows.collect();
    section.table(&["a settled deposit", ""], rows);
    let peak = section.median(MEMORY);
    let name = "resident memory of a service under full load";
    section.goals.push(Goal::new(name, Bound::AtMost(64.0), "MiB", peak));
    let name = "nats-server, processor time of a deposit at full load";
    let broker = section.median(BROKER);
    section.goals.push(Goal::new(name, Bound::AtMost(10.0), "core-µs", broker));
}

/// Processor time in seconds, summed over the replicas of each service.
fn seconds_by_service(stack: &Stack) -> BTreeMap<String, f64> {
    let mut services = BTreeMap::new();
    for (name, seconds) in processes::processor_seconds(&stack.file) {
        let service = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
        *services.entry(service.to_owned()).or_default() += seconds;
    }
    services
}
