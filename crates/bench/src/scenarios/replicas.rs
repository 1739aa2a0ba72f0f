//! The scaling with replicas over a slow link to the database.

use std::time::Instant;

use anyhow::{Context, Result};
use devstack::{Fault, FaultClient};
use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use super::deposits::{ACCOUNTS, warm_up};
use crate::{
    backlog::{self, TRANSACTION_SERVICE, drained},
    bench::Bench,
    database_figures::{drain_rates, nothing_pending},
    nats,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Commands wait in the stream, and 1, 2 or 5 transaction-services process them. \
Each reaches its database over a link with 1 ms of delay each way; the resulting round trip is \
measured. Two fetch sizes: 10 messages, and the default. The account-services are frozen \
meanwhile, so only the ledger's replicas are measured. The links run on the same processors.";

const REPLICAS: [usize; 3] = [1, 2, 5];
const ROUND_TRIP: &str = "round trip to the database, ms";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("replicas", "Replicas", ABOUT, bench.quick);
    for (fetch, environment) in [("10", &[("PASSBOOK_WORKER_BATCH", "10")][..]), ("default", &[])] {
        measure(bench, fetch, environment, &mut section).await?;
    }
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let cells = |fetch: &str, replicas: usize| {
        let (name, one) = (decided(fetch, replicas), decided(fetch, 1));
        [section.cell(&name), format!("{:.2} ×", section.ratio(&name, &one))]
    };
    let row = |replicas: usize| {
        let cells = [cells("10", replicas), cells("default", replicas)];
        std::iter::once(replicas.to_string()).chain(cells.into_iter().flatten()).collect()
    };
    let rows: Vec<Vec<_>> = REPLICAS.map(row).to_vec();
    let headings =
        ["transaction-services", "fetch 10: decided a second", "", "default: decided a second", ""];
    section.table(&headings, rows);
    let rows = vec![vec![ROUND_TRIP.to_owned(), section.cell(ROUND_TRIP)]];
    section.table(&["with the link", ""], rows);
    let ratio = section.ratio(&decided("10", 5), &decided("10", 1));
    let name = "5 replicas relative to 1, 2 ms database round trip, fetch 10";
    section.goals.push(Goal::new(name, Bound::AtLeast(4.5), "×", ratio));
}

fn decided(fetch: &str, replicas: usize) -> String {
    format!("fetch {fetch}, {replicas} replicas: decided a second")
}

async fn measure(
    bench: &Bench,
    fetch: &str,
    environment: &[(&str, &str)],
    section: &mut Section,
) -> Result<()> {
    let arguments = &["--faults", "--transaction-replicas", "5"];
    let stack = Stack::start(bench, Settings { arguments, environment }).await?;
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let faults = FaultClient::of(&stack.file)?;
    faults.inject("transaction-service-*/postgres", Fault::Delay(1)).await?;
    section.note(ROUND_TRIP, round_trip(&stack).await?);
    let broker = nats::connect(&stack.file).await?;
    // The goal is about fetch 10. The default is measured once, to show the effect of larger batches.
    let repetitions = if fetch == "10" { bench.repetitions() } else { 1 };
    for _ in 0..repetitions {
        for replicas in REPLICAS {
            // Enough commands for some seconds.
            let commands = if fetch == "10" {
                bench.size(5_000, 2_000) * replicas
            } else {
                bench.size(60_000, 20_000)
            };
            stack.signal("account-service", usize::MAX, Signal::SIGSTOP)?;
            let backlog = backlog::create(&stack, &accounts, commands).await?;
            stack.signal(TRANSACTION_SERVICE, replicas, Signal::SIGCONT)?;
            drained(&broker).await?;
            section
                .note(decided(fetch, replicas), drain_rates(&stack.file, &backlog).await?.decided);
            stack.signal("", usize::MAX, Signal::SIGCONT)?;
            nothing_pending(&stack.file).await?;
            // Old records were redriven. Their commands must not be left for the next run.
            drained(&broker).await?;
        }
    }
    faults.inject("*", Fault::Pass).await?;
    stack.finish().await
}

/// The mean of 100 round trips over the link of the first replica, in ms.
async fn round_trip(stack: &Stack) -> Result<f64> {
    let mut processes = stack.file.processes.iter();
    let process = processes.find(|process| process.name.starts_with(TRANSACTION_SERVICE));
    let pid = process.context("the stack has no transaction-service")?.pid;
    let environment = std::fs::read(format!("/proc/{pid}/environ"))?;
    let url = String::from_utf8_lossy(&environment)
        .split('\0')
        .find_map(|variable| variable.strip_prefix("PASSBOOK_DATABASE_URL=").map(str::to_owned))
        .context("the transaction-service has no PASSBOOK_DATABASE_URL")?;
    let mut database = PgConnection::connect(&url).await?;
    database.ping().await?;
    let begun = Instant::now();
    for _ in 0..100 {
        database.ping().await?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0 / 100.0)
}
