//! Commands that wait, and how fast the ledger gets through them.

use std::env;

use anyhow::{Context, Result, ensure};
use load::Counters;
use nix::sys::signal::Signal;
use tokio::process::Command;

use super::end_to_end::{ACCOUNTS, warm_up};
use crate::{
    Bench,
    books::rates,
    fill::{LEDGER, Waiting, drained, fill},
    section::{Bound, Goal, Section},
    stack::{Settings, Stack, broker},
    wait::until,
};

const ABOUT: &str = "Commands of deposits to 10,000 accounts wait in the stream, their records \
PENDING; then 1, 2 or 5 transaction-services go on that were frozen. Decided: the ledger's \
transactions over the time from the first to the last. Settled: records over the time from the \
first transaction until the last record was settled by two account-services, which work \
meanwhile. Beside it, the one-at-a-time loop on the same tables and streams: fetch ten; for each, \
is it decided already, begin, lock, update, insert, commit, publish and await the PubAck, ack.";

const ONE: &str = "one at a time, a second";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let settings = Settings { arguments: &["--transaction-replicas", "5"], ..Settings::default() };
    let stack = Stack::start(bench, settings).await?;
    let mut section = Section::new("drain", "Drain", ABOUT, bench.quick);
    section.machine = stack.machine.clone();
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    for repetition in 0..bench.repetitions() {
        section.note(ONE, one_at_a_time(&stack, &accounts, bench.size(3_000, 1_500)).await?);
        for replicas in [2, 1, 5] {
            // Two replicas are what the goal is about; the others show how it scales.
            if replicas == 2 || repetition == 0 {
                let waiting = bench.size(200_000, 40_000);
                drain(&stack, &accounts, waiting, replicas, &mut section).await?;
            }
        }
    }
    stack.finish().await?;
    conclude(&mut section);
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
    number: usize,
    replicas: usize,
    section: &mut Section,
) -> Result<()> {
    let mut counters = Counters::begin(&stack.target).await?;
    let waiting = fill(stack, accounts, number).await?;
    let broker = broker(&stack.file).await?;
    stack.signal(LEDGER, replicas, Signal::SIGCONT)?;
    drained(&broker).await?;
    settled_all(&mut counters, &waiting).await?;
    stack.signal(LEDGER, usize::MAX, Signal::SIGCONT)?;
    let rates = rates(&stack.file, &waiting).await?;
    section.note(decided(replicas), rates.decided);
    section.note(settled(replicas), rates.settled);
    Ok(())
}

async fn settled_all(counters: &mut Counters, waiting: &Waiting) -> Result<()> {
    until("all records are settled", async || Ok(counters.settled().await? >= waiting.count)).await
}

/// The baseline's rate, as its program tells it.
async fn one_at_a_time(stack: &Stack, accounts: &[String], number: usize) -> Result<f64> {
    let mut counters = Counters::begin(&stack.target).await?;
    let waiting = fill(stack, accounts, number).await?;
    let program = env::current_exe()?.with_file_name("one-at-a-time");
    let mut command = Command::new(&program);
    command
        .args(["--messages", &number.to_string()])
        .env("PASSBOOK_TRANSACTION_DATABASE_URL", &stack.file.databases.transaction)
        .env("PASSBOOK_NATS_URL", &stack.file.nats);
    let output = command.output().await.with_context(|| program.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    settled_all(&mut counters, &waiting).await?;
    stack.signal(LEDGER, usize::MAX, Signal::SIGCONT)?;
    said.trim().parse().with_context(|| said.to_string())
}

fn conclude(section: &mut Section) {
    let times = |name: &str| format!("{:.1} ×", section.ratio(name, ONE));
    let row = |replicas: usize| {
        let (decided, settled) = (decided(replicas), settled(replicas));
        let cells = [section.cell(&decided), times(&decided), section.cell(&settled)];
        std::iter::once(replicas.to_string()).chain(cells).collect()
    };
    let mut rows: Vec<Vec<_>> = [1, 2, 5].map(row).to_vec();
    rows.push(vec!["one at a time".into(), section.cell(ONE), "1 ×".into(), String::new()]);
    let headings = ["transaction-services", "decided a second", "", "settled a second"];
    section.table(&headings, rows);
    let measured = section.ratio(&decided(2), ONE);
    let what = "drain rate of 2 replicas, of the one-at-a-time loop";
    section.goals.push(Goal::new(what, Bound::AtLeast(20.0), "×", measured));
}
