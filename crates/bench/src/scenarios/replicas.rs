//! More replicas, with the database some way off.

use std::time::Instant;

use anyhow::{Context, Result};
use devstack::{Fault, FaultClient};
use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use super::end_to_end::{ACCOUNTS, warm_up};
use crate::{
    Bench,
    books::rates,
    fill::{LEDGER, drained, fill},
    section::{Bound, Goal, Section},
    stack::{Settings, Stack, broker},
    wait::until,
};

const ABOUT: &str = "Commands wait, and 1, 2 or 5 transaction-services get through them, each \
over a link that has everything to and from its database arrive 1 ms later, each way: what a \
round trip takes then is measured. Fetching 10 messages at a time, and as many as by default. \
The account-services are frozen meanwhile, so that the ledger's replicas are what is measured; \
the links themselves run on the same processors.";

const REPLICAS: [usize; 3] = [1, 2, 5];
const ROUND_TRIP: &str = "round trip to the database, ms";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("replicas", "Replicas", ABOUT, bench.quick);
    for (fetch, environment) in [("10", &[("PASSBOOK_WORKER_BATCH", "10")][..]), ("default", &[])] {
        measure(bench, fetch, environment, &mut section).await?;
    }
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
    let measured = section.ratio(&decided("10", 5), &decided("10", 1));
    let what = "5 replicas of 1, 2 ms database round trip, fetch 10";
    section.goals.push(Goal::new(what, Bound::AtLeast(4.8), "×", measured));
    Ok(section)
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
    section.machine = stack.machine.clone();
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let faults = FaultClient::of(&stack.file)?;
    faults.inject("transaction-service-*/postgres", Fault::Delay(1)).await?;
    section.note(ROUND_TRIP, round_trip(&stack).await?);
    let broker = broker(&stack.file).await?;
    // The goal is about the first; the other shows what a larger batch does.
    let repetitions = if fetch == "10" { bench.repetitions() } else { 1 };
    for _ in 0..repetitions {
        for replicas in REPLICAS {
            // So many that each run takes some seconds.
            let each = if fetch == "10" {
                bench.size(5_000, 2_000) * replicas
            } else {
                bench.size(60_000, 20_000)
            };
            stack.signal("account-service", usize::MAX, Signal::SIGSTOP)?;
            let waiting = fill(&stack, &accounts, each).await?;
            stack.signal(LEDGER, replicas, Signal::SIGCONT)?;
            drained(&broker).await?;
            section.note(decided(fetch, replicas), rates(&stack.file, &waiting).await?.decided);
            stack.signal("", usize::MAX, Signal::SIGCONT)?;
            settled(&stack).await?;
            // Some records were old enough to be sent again: the next run is not to find those.
            drained(&broker).await?;
        }
    }
    faults.inject("*", Fault::Pass).await?;
    stack.finish().await
}

/// The mean of a hundred, over the link of the first replica.
async fn round_trip(stack: &Stack) -> Result<f64> {
    let process = stack.file.processes.iter().find(|it| it.name.starts_with(LEDGER));
    let pid = process.context("no transaction-service")?.pid;
    let environment = std::fs::read(format!("/proc/{pid}/environ"))?;
    let url = String::from_utf8_lossy(&environment)
        .split('\0')
        .find_map(|it| it.strip_prefix("PASSBOOK_DATABASE_URL=").map(str::to_owned))
        .context("a service without a database")?;
    let mut database = PgConnection::connect(&url).await?;
    database.ping().await?;
    let begun = Instant::now();
    for _ in 0..100 {
        database.ping().await?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0 / 100.0)
}

/// Waits until no record is PENDING.
async fn settled(stack: &Stack) -> Result<()> {
    let mut database = PgConnection::connect(&stack.file.databases.account).await?;
    let pending = "SELECT EXISTS (SELECT FROM transaction_records WHERE status = 'PENDING')";
    until("all records are settled", async || {
        Ok(!sqlx::query_scalar::<_, bool>(pending).fetch_one(&mut database).await?)
    })
    .await
}
