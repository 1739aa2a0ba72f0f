//! What streams of events cost the way of money.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use client::Request;
use load::{Pace, Report, WaitFor, processor_time};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    api,
    bench::Bench,
    event_streams::EventStreams,
    processes::processor_seconds,
    runs::number,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single deposits to 10,000 accounts in a closed loop of 256 clients, with \
streams of events (server-sent events) open at two replicas. Their clients run on the same \
processors. Core-µs: processor time of all processes, load and stream clients included, divided \
by the settled deposits. Streams must receive each of their events, except in the last row. It has \
no goal: each event is due at each of the 1,000 clients, which only callers with `accounts:any` \
can ask for.";

/// Number of streams.
const STREAMS: usize = 1000;
/// Streams of [`FEW`].
const FEW_STREAMS: u64 = 4;
/// Time for the streams to catch up, before the load.
const PAUSE: Duration = Duration::from_secs(3);

const NONE: &str = "no stream";
const IDLE: &str = "1,000 streams of accounts without movements";
const OWN: &str = "1,000 streams of accounts with movements";
const FEW: &str = "4 streams of all events";
const ALL: &str = "1,000 streams of all events";
const CASES: [&str; 5] = [NONE, IDLE, OWN, FEW, ALL];
const RATE: &str = "settled a second";
const COST: &str = "core-µs a deposit";
const RECEIVED: &str = "events received a second";

fn figure(case: &str, name: &str) -> String {
    format!("{case}: {name}")
}

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    // One caller has all streams: a quarter of the places of each replica.
    let environment = &[("PASSBOOK_MOST_EVENT_STREAMS", "4000")];
    let stack = Stack::start(bench, Settings { environment, ..Settings::default() }).await?;
    let mut section = Section::new("streams", "Streams of events", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    let idle = load::open_accounts(&stack.target, STREAMS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let moving: Vec<_> = accounts.iter().take(STREAMS).cloned().collect();
    for _ in 0..bench.repetitions() {
        deposit_rate(bench, &stack, &accounts, NONE, &mut section).await?;
        for (case, followed) in [(IDLE, &idle), (OWN, &moving)] {
            let streams = of_accounts(&stack, followed).await?;
            let (begun, before) = (SystemTime::now(), streams.received());
            deposit_rate(bench, &stack, &accounts, case, &mut section).await?;
            let records = load::count_records(&stack.target, followed, begun).await?;
            streams.receive(before + records.total).await?;
        }
        for (case, count) in [(FEW, usize::try_from(FEW_STREAMS)?), (ALL, STREAMS)] {
            let query = format!("after={}", newest_event(&stack).await?);
            let streams = open(&stack, &vec![query; count]).await?;
            let before = streams.received();
            let report = deposit_rate(bench, &stack, &accounts, case, &mut section).await?;
            let rate = number(streams.received() - before) / report.settled_after_seconds.max(1e-9);
            section.note(figure(case, RECEIVED), rate);
            if case == FEW {
                streams.receive(before + report.settled * FEW_STREAMS).await?;
            }
        }
    }
    stack.finish().await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let row = |case: &str| {
        let ratio = |name| section.ratio(&figure(case, name), &figure(NONE, name));
        let cell = |name| section.cell(&figure(case, name));
        let ratios = [RATE, COST].map(|name| format!("{:.2} ×", ratio(name)));
        let [rate, cost] = ratios;
        vec![case.to_owned(), cell(RATE), rate, cell(COST), cost, cell(RECEIVED)]
    };
    let rows = CASES.map(row).to_vec();
    section.table(&["", RATE, "relative to none", COST, "relative to none", RECEIVED], rows);
    for case in [IDLE, OWN] {
        let ratio = section.ratio(&figure(case, RATE), &figure(NONE, RATE));
        let name = format!("deposits with {case}, relative to none");
        section.goals.push(Goal::new(&name, Bound::AtLeast(0.8), "×", ratio));
    }
}

/// Measures the rate and the processor time of deposits.
async fn deposit_rate(
    bench: &Bench,
    stack: &Stack,
    accounts: &[String],
    case: &str,
    section: &mut Section,
) -> Result<Report> {
    let duration = Duration::from_secs(bench.size(6, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    let seconds = || -> f64 { processor_seconds(&stack.file).into_values().sum() };
    let (before, own) = (seconds(), processor_time());
    let report = stack.load(accounts, plan).await?;
    let own = processor_time().saturating_sub(own).as_secs_f64();
    let cost = (seconds() - before + own) * 1e6 / number(report.settled.max(1));
    section.note(figure(case, RATE), report.settled_per_second);
    section.note(figure(case, COST), cost);
    Ok(report)
}

/// Opens a stream of the later events of each of these accounts.
async fn of_accounts(stack: &Stack, accounts: &[String]) -> Result<EventStreams> {
    let after = newest_event(stack).await?;
    let queries = accounts.iter().map(|account| format!("accountId={account}&after={after}"));
    open(stack, &queries.collect::<Vec<_>>()).await
}

async fn open(stack: &Stack, queries: &[String]) -> Result<EventStreams> {
    let streams = EventStreams::open(stack, queries).await?;
    tokio::time::sleep(PAUSE).await;
    Ok(streams)
}

/// The id of a new event: the cursor of later ones.
async fn newest_event(stack: &Stack) -> Result<String> {
    let opened = load::open_accounts(&stack.target, 1, false).await?;
    let account = opened.first().context("no account was opened")?;
    let path = format!("/v1/events?accountId={account}");
    let page = api::request(stack, &stack.target.token, &Request::get(path)).await?;
    api::text(&page, "/items/0/id")
}
