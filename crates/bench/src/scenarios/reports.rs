//! An activity report over millions of rows: its time and memory, and its
//! effect on deposits.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use load::{Pace, WaitFor};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    bench::Bench,
    history, processes,
    report_job::ReportJob,
    runs::number,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "A ledger with 5,000,000 settled deposits of 10,000 accounts (200,000 in a \
quick run), and activity reports over all of them, as PDF, HTML and JSON.

- Deposits: single deposits to the same accounts in a closed loop of 256 clients, in turn without \
a report, and while one reads the ledger. The slowdown is the median over pairs of neighbouring \
measurements, of which every second one begins with the report.
- Time: from RUNNING to SUCCEEDED, without other load, at the default of \
`PASSBOOK_REPORT_ACTIVITY_BUSY` and at 100 %.
- Memory: the peak of the report-service since its start, with all of these reports.";

const ALONE: &str = "deposits without a report, settled a second";
const BESIDE: &str = "deposits during a report, settled a second";
const SLOWDOWN: &str = "slowdown of deposits during a report, %";
const MEMORY: &str = "resident memory of the report-service, MiB";
const REPORT_SERVICE: &str = "report-service-0";
const BUSY: [(&str, &[(&str, &str)]); 2] =
    [("default", &[]), ("100 %", &[("PASSBOOK_REPORT_ACTIVITY_BUSY", "100")])];

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("reports", "Reports", ABOUT, bench.quick);
    let mut stack = Stack::start(bench, Settings::default()).await?;
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    let rows = bench.size(5_000_000, 200_000);
    let begun = Instant::now();
    history::write(&stack, &accounts, rows).await?;
    section.note("the history took, s", begun.elapsed().as_secs_f64());
    warm_up(bench, &stack, &accounts).await?;
    for pair in 0..bench.size(9, 1) {
        measure_pair(bench, &stack, &accounts, pair % 2 == 1, &mut section).await?;
    }
    for (busy, environment) in BUSY {
        if !environment.is_empty() {
            stack = stack.restart(Settings { environment, ..Settings::default() }).await?;
        }
        let seconds = ReportJob::request(&stack).await?.succeeded(&stack).await?;
        section.note(time_at(busy), seconds);
        section.note(rate_at(busy), number(u64::try_from(rows)?) / seconds.max(1e-6));
        let peak = processes::peak_memory(&stack.file).get(REPORT_SERVICE).copied();
        section.note(MEMORY, peak.context("the report-service has no memory figure")?);
    }
    stack.finish().await?;
    Ok(section)
}

fn time_at(busy: &str) -> String {
    format!("busy {busy}: report, s")
}

fn rate_at(busy: &str) -> String {
    format!("busy {busy}: rows a second")
}

/// Deposits without and with a report, in either order.
async fn measure_pair(
    bench: &Bench,
    stack: &Stack,
    accounts: &[String],
    report_first: bool,
    section: &mut Section,
) -> Result<()> {
    let (beside, alone) = if report_first {
        let beside = during_report(bench, stack, accounts).await?;
        (beside, rate(bench, stack, accounts).await?)
    } else {
        let alone = rate(bench, stack, accounts).await?;
        (during_report(bench, stack, accounts).await?, alone)
    };
    section.note(ALONE, alone);
    section.note(BESIDE, beside);
    section.note(SLOWDOWN, (1.0 - beside / alone.max(1e-6)) * 100.0);
    Ok(())
}

async fn during_report(bench: &Bench, stack: &Stack, accounts: &[String]) -> Result<f64> {
    let report = ReportJob::request(stack).await?.reading(stack).await?;
    let rate = rate(bench, stack, accounts).await?;
    report.ensure_running(stack).await?;
    report.cancel(stack).await?;
    Ok(rate)
}

async fn rate(bench: &Bench, stack: &Stack, accounts: &[String]) -> Result<f64> {
    let duration = Duration::from_secs(bench.size(6, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    Ok(stack.load(accounts, plan).await?.settled_per_second)
}

pub(super) fn present(section: &mut Section) {
    let ratio = |name: &str| format!("{:.2} ×", section.ratio(name, ALONE));
    let rows = [ALONE, BESIDE].map(|name| vec![name.to_owned(), section.cell(name), ratio(name)]);
    let mut rows = rows.to_vec();
    rows.push(vec![SLOWDOWN.to_owned(), section.cell(SLOWDOWN), String::new()]);
    section.table(&["", "", "relative to no report"], rows);
    let row = |busy: &str| {
        vec![busy.to_owned(), section.cell(&time_at(busy)), section.cell(&rate_at(busy))]
    };
    let rows = BUSY.map(|(busy, _)| row(busy)).to_vec();
    section.table(&["`PASSBOOK_REPORT_ACTIVITY_BUSY`", "report, s", "rows a second"], rows);
    section.table(&["", "MiB"], vec![vec![MEMORY.to_owned(), section.cell(MEMORY)]]);
    let (slowdown, memory) = (section.median(SLOWDOWN), section.highest(MEMORY));
    let rows = if section.quick { "200,000" } else { "5,000,000" };
    let goal = |name: String, bound, unit, measured| Goal::new(&name, bound, unit, measured);
    section.goals.extend([
        goal(
            "deposits during an activity report, relative to none".to_owned(),
            Bound::AtLeast(0.9),
            "×",
            1.0 - slowdown / 100.0,
        ),
        goal(
            format!("memory of the report-service, activity report over {rows} rows"),
            Bound::AtMost(200.0),
            "MiB",
            memory,
        ),
    ]);
}
