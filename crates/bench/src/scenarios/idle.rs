//! The processor time of a system without work.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;

use super::deposits::{ACCOUNTS, warm_up};
use crate::{
    bench::Bench,
    processes::{self, SUPERVISOR},
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Processor time (user and kernel) of all processes while nothing is requested, \
in percent of one core: two replicas of each money service, one report-service, one \
webhook-service, nats-server, PostgreSQL with all its connections, and the development stack's own \
process with its proxy. The measurement takes a minute (10 s in a quick run), after some load and half a minute of rest. \
Tracing, Prometheus and other clients are absent.";

const TOTAL: &str = "all processes, % of a core";
const UNIT: &str = ", % of a core";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("idle", "Idle", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    tokio::time::sleep(Duration::from_secs(bench.size(30, 10))).await;
    for _ in 0..bench.repetitions() {
        let duration = Duration::from_secs(bench.size(60, 10));
        let before = processes::processor_seconds(&stack.file);
        tokio::time::sleep(duration).await;
        let after = processes::processor_seconds(&stack.file);
        let shares = shares(&before, &after, duration);
        section.note(TOTAL, shares.values().sum());
        for (name, share) in shares {
            section.note(format!("{name}{UNIT}"), share);
        }
    }
    stack.finish().await?;
    Ok(section)
}

/// Percent of a core, by process. A process that was restarted counts from zero.
fn shares(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    duration: Duration,
) -> BTreeMap<String, f64> {
    let share = |(name, seconds): (&String, &f64)| {
        let earlier = before.get(name).copied().filter(|earlier| earlier <= seconds);
        let spent = seconds - earlier.unwrap_or_default();
        (name.clone(), spent / duration.as_secs_f64() * 100.0)
    };
    after.iter().map(share).collect()
}

pub(super) fn present(section: &mut Section) {
    let processes = section.figures.keys().filter(|name| *name != TOTAL).cloned();
    let names: Vec<_> = processes.chain([TOTAL.to_owned()]).collect();
    let rows = names.into_iter().map(|name| {
        let process = name.trim_end_matches(UNIT);
        let shown =
            if process == SUPERVISOR { "development stack, with its proxy" } else { process };
        vec![shown.to_owned(), section.cell(&name)]
    });
    let rows = rows.collect();
    section.table(&["process", "% of a core"], rows);
    let total = section.median(TOTAL);
    let name = "idle, processor time of all processes";
    section.goals.push(Goal::new(name, Bound::AtMost(3.0), "% of a core", total));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_time_spent_between_both_readings() {
        let reading = |pairs: &[(&str, f64)]| {
            pairs.iter().map(|(name, seconds)| ((*name).to_owned(), *seconds)).collect()
        };
        let (before, after) =
            (reading(&[("a", 1.0), ("b", 5.0)]), reading(&[("a", 1.6), ("b", 0.3), ("c", 0.06)]));
        let shares = shares(&before, &after, Duration::from_mins(1));
        let shown: Vec<_> =
            shares.iter().map(|(name, share)| format!("{name} {share:.2}")).collect();
        assert_eq!(shown, ["a 1.00", "b 0.50", "c 0.10"]);
    }
}
