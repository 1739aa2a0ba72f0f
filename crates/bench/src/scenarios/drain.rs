//! The rate at which the ledger decides a backlog of commands.

use std::env;

use anyhow::{Context, Result, ensure};
use load::SettledCounters;
use nix::sys::signal::Signal;
use tokio::process::Command;

use super::deposits::{ACCOUNTS, warm_up};
use crate::{
    backlog::{self, Backlog, TRANSACTION_SERVICE, drained},
    bench::Bench,
    database_figures::drain_rates,
    nats,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
    wait::until,
};

const ABOUT: &str =
    "Commands of deposits to 10,000 accounts wait in the stream, with their records \
PENDING. Then 1, 2 or 5 frozen transaction-services continue.

- Decided: the ledger's transactions, divided by the time from the first to the last.
- Settled: records, divided by the time from the first transaction until the last record is \
settled. Two account-services settle them meanwhile.
- One at a time: a simple loop on the same tables and streams. It fetches ten commands. For each, \
it checks for an earlier decision, begins, locks, updates, inserts, commits, publishes and awaits \
the PubAck, then acks.";

const ONE_AT_A_TIME: &str = "one at a time, a second";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let settings = Settings { arguments: &["--transaction-replicas", "5"], ..Settings::default() };
    let stack = Stack::start(bench, settings).await?;
    let mut section = Section::new("drain", "Drain", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    for repetition in 0..bench.repetitions() {
        section
            .note(ONE_AT_A_TIME, one_at_a_time(&stack, &accounts, bench.size(3_000, 1_500)).await?);
        for replicas in [2, 1, 5] {
            // The goal is about two replicas. The others are measured once, to show the scaling.
            if replicas == 2 || repetition == 0 {
                let commands = bench.size(200_000, 40_000);
                drain(&stack, &accounts, commands, replicas, &mut section).await?;
            }
        }
    }
    stack.finish().await?;
    Ok(section)
}

fn decided(replicas: usize) -> String {
    format!("{replicas} replicas: decided a second")
}

fn settled(replicas: usize) -> String {
    format!("{replicas} replicas: settled a second")
}

async fn drain(
    stack: &Stack,
    accounts: &[String],
    commands: usize,
    replicas: usize,
    section: &mut Section,
) -> Result<()> {
    let mut counters = SettledCounters::begin(&stack.target).await?;
    let backlog = backlog::create(stack, accounts, commands).await?;
    let broker = nats::connect(&stack.file).await?;
    stack.signal(TRANSACTION_SERVICE, replicas, Signal::SIGCONT)?;
    drained(&broker).await?;
    all_settled(&mut counters, &backlog).await?;
    stack.signal(TRANSACTION_SERVICE, usize::MAX, Signal::SIGCONT)?;
    let rates = drain_rates(&stack.file, &backlog).await?;
    section.note(decided(replicas), rates.decided);
    section.note(settled(replicas), rates.settled);
    Ok(())
}

async fn all_settled(counters: &mut SettledCounters, backlog: &Backlog) -> Result<()> {
    until("all records to settle", async || Ok(counters.settled().await? >= backlog.count)).await
}

/// Runs the baseline program, and returns its rate in commands per second.
async fn one_at_a_time(stack: &Stack, accounts: &[String], commands: usize) -> Result<f64> {
    let mut counters = SettledCounters::begin(&stack.target).await?;
    let backlog = backlog::create(stack, accounts, commands).await?;
    let program = env::current_exe()?.with_file_name("one-at-a-time");
    let mut command = Command::new(&program);
    command
        .args(["--messages", &commands.to_string()])
        .env("PASSBOOK_TRANSACTION_DATABASE_URL", &stack.file.databases.transaction)
        .env("PASSBOOK_NATS_URL", &stack.file.nats);
    let output =
        command.output().await.with_context(|| format!("running {}", program.display()))?;
    let (rate, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{} failed: {errors}", program.display());
    all_settled(&mut counters, &backlog).await?;
    stack.signal(TRANSACTION_SERVICE, usize::MAX, Signal::SIGCONT)?;
    rate.trim().parse().with_context(|| format!("{} printed no rate: {rate}", program.display()))
}

pub(super) fn present(section: &mut Section) {
    let ratio = |name: &str| format!("{:.1} ×", section.ratio(name, ONE_AT_A_TIME));
    let row = |replicas: usize| {
        let (decided, settled) = (decided(replicas), settled(replicas));
        let cells = [section.cell(&decided), ratio(&decided), section.cell(&settled)];
        std::iter::once(replicas.to_string()).chain(cells).collect()
    };
    let mut rows: Vec<Vec<_>> = [1, 2, 5].map(row).to_vec();
    rows.push(vec![
        "one at a time".into(),
        section.cell(ONE_AT_A_TIME),
        "1 ×".into(),
        String::new(),
    ]);
    let headings = ["transaction-services", "decided a second", "", "settled a second"];
    section.table(&headings, rows);
    let ratio = section.ratio(&decided(2), ONE_AT_A_TIME);
    let name = "drain rate of 2 replicas, relative to the one-at-a-time loop";
    section.goals.push(Goal::new(name, Bound::AtLeast(40.0), "×", ratio));
}
