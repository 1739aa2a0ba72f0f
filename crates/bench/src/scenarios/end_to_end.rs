//! The throughput and latency of a deposit from the HTTP request to SUCCESS.

use std::{fmt::Write, time::Duration};

use anyhow::Result;
use load::{Pace, WaitFor};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    bench::Bench,
    bystander,
    pgbench::{Pgbench, TPS_FIGURE},
    section::{Bound, Goal, Plot, Section},
    stack::{Settings, Stack},
    wrk::{MISSING, Wrk},
};

const ABOUT: &str = "Single deposits to 10,000 accounts, two replicas of each money service. A \
webhook endpoint and a stream of events of another owner are open.

- Closed loop: each client sends its next request after the answer to the last one.
- Settled a second: settled records, divided by the time from the first request until the last \
record is settled.
- Open loop: requests are due at even intervals, at a quarter of the closed loop's highest rate. \
Each waits for its settled record (`Prefer: wait`). Its time counts from the moment it was due.
- `pgbench -N`, scale 10, on the same server, runs in turn with each repetition: with 32 clients \
(transactions a second) and with 1 client (mean latency).
- wrk: 256 connections in a closed loop, sending directly to the replicas (a process for each) or \
through the development proxy. Settled a second: by the clock of the database, from the first \
accepted record until the last is settled. The other rows are from the project's own generator.";

const WRK_DIRECT: &str = "wrk to the replicas: settled a second";
const WRK_PROXY: &str = "wrk through the proxy: settled a second";
const LATENCY_FIGURE: &str = "pgbench -N -c 1, mean latency, ms";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("end-to-end", "End to end", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let pgbench = Pgbench::prepare(&stack.file).await?;
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    let _bystander = bystander::follow(&stack).await?;
    warm_up(bench, &stack, &accounts).await?;
    let wrk = Wrk::prepare(bench, &stack, &accounts)?;
    if wrk.is_none() {
        let _ = write!(section.about, "\n\n{MISSING}");
    }
    let clients = clients(bench.quick);
    let duration = Duration::from_secs(bench.size(4, 2));
    for _ in 0..bench.repetitions() {
        let yardstick = pgbench.measure(32, bench.size(6, 4)).await?;
        section.note(TPS_FIGURE, yardstick.tps);
        for &clients in clients {
            let plan = deposits(Pace::Closed { clients }, duration, WaitFor::Accepted);
            let report = stack.load(&accounts, plan).await?;
            section.note(figure(clients, "settled a second"), report.settled_per_second);
            section.note(figure(clients, "accepted a second"), report.accepted_per_second);
            section.note(figure(clients, "accept p50, ms"), report.latency.p50);
            section.note(figure(clients, "accept p99, ms"), report.latency.p99);
            section.note("load, core-µs a request", report.cpu_micros_per_request);
        }
        if let Some(wrk) = &wrk {
            let proxy = std::slice::from_ref(&wrk.proxy);
            for (name, urls) in [(WRK_DIRECT, wrk.replicas.as_slice()), (WRK_PROXY, proxy)] {
                section.note(name, wrk.deposits(&stack, urls, duration).await?);
            }
        }
    }
    for &clients in clients {
        let plan = deposits(Pace::Closed { clients }, duration, WaitFor::Settled);
        let report = stack.load(&accounts, plan).await?;
        section.note(figure(clients, "settle p50, ms"), report.latency.p50);
        section.note(figure(clients, "settle p99, ms"), report.latency.p99);
    }
    let highest = highest_rate(&section, clients);
    open_loop(bench, &stack, &pgbench, &accounts, highest / 4.0, &mut section).await?;
    stack.finish().await?;
    Ok(section)
}

/// The numbers of clients.
const fn clients(quick: bool) -> &'static [u16] {
    if quick { &[1, 64, 256] } else { &[1, 4, 16, 64, 256] }
}

pub(super) fn present(section: &mut Section) {
    let clients = clients(section.quick);
    add_tables(section, clients);
    add_plots(section, clients);
    add_goals(section);
}

/// The name of a figure for a number of clients.
fn figure(clients: u16, name: &str) -> String {
    format!("{clients} clients: {name}")
}

fn highest_rate(section: &Section, clients: &[u16]) -> f64 {
    let rate = |&clients: &u16| section.median(&figure(clients, "settled a second"));
    clients.iter().map(rate).fold(0.0, f64::max)
}

async fn open_loop(
    bench: &Bench,
    stack: &Stack,
    pgbench: &Pgbench,
    accounts: &[String],
    rate: f64,
    section: &mut Section,
) -> Result<()> {
    for _ in 0..bench.repetitions() {
        let yardstick = pgbench.measure(1, bench.size(4, 2)).await?;
        section.note(LATENCY_FIGURE, yardstick.latency);
        let pace = Pace::Open { rate, connections: 256 };
        let duration = Duration::from_secs(bench.size(6, 3));
        let plan = deposits(pace, duration, WaitFor::Settled);
        let settled = stack.load(accounts, plan).await?.latency;
        for (name, latency) in [
            ("p50", settled.p50),
            ("p90", settled.p90),
            ("p99", settled.p99),
            ("p99.9", settled.p99_9),
            ("longest", settled.max),
        ] {
            section.note(format!("open loop: settle {name}, ms"), latency);
        }
        let plan = deposits(pace, duration, WaitFor::Accepted);
        let accepted = stack.load(accounts, plan).await?.latency;
        section.note("open loop: accept p50, ms", accepted.p50);
        section.note("open loop: accept p99, ms", accepted.p99);
    }
    Ok(())
}

fn add_tables(section: &mut Section, clients: &[u16]) {
    let row = |&clients: &u16| {
        let figures = [
            "settled a second",
            "accept p50, ms",
            "accept p99, ms",
            "settle p50, ms",
            "settle p99, ms",
        ];
        let cells = figures.map(|name| section.cell(&figure(clients, name)));
        std::iter::once(clients.to_string()).chain(cells).collect()
    };
    let rows = clients.iter().map(row).collect();
    section.table(
        &["clients", "settled a second", "accept p50, ms", "p99", "settle p50, ms", "p99"],
        rows,
    );
    if section.median(WRK_DIRECT) > 0.0 {
        let row = |(name, figure): (&str, &str)| {
            let ratio = format!("{:.2} ×", section.ratio(figure, TPS_FIGURE));
            vec![name.to_owned(), section.cell(figure), ratio]
        };
        let rows = [("to the replicas", WRK_DIRECT), ("through the proxy", WRK_PROXY)].map(row);
        let headings = ["wrk, 256 connections", "settled a second", "relative to pgbench -c 32"];
        section.table(&headings, rows.to_vec());
    }
    let latency = section.median(LATENCY_FIGURE);
    let names = [
        "settle p50",
        "settle p90",
        "settle p99",
        "settle p99.9",
        "settle longest",
        "accept p50",
        "accept p99",
    ];
    let mut rows: Vec<_> = names
        .into_iter()
        .map(|name| {
            let figure = format!("open loop: {name}, ms");
            let ratio = section.median(&figure) / latency.max(1e-9);
            vec![format!("{name}, ms"), section.cell(&figure), format!("{ratio:.1} ×")]
        })
        .collect();
    rows.push(vec![LATENCY_FIGURE.into(), section.cell(LATENCY_FIGURE), "1 ×".into()]);
    section.table(
        &["open loop at a quarter of the maximum rate", "", "relative to pgbench -c 1"],
        rows,
    );
    section.table(
        &["yardstick", ""],
        vec![
            vec![TPS_FIGURE.into(), section.cell(TPS_FIGURE)],
            vec![
                "load generator, core-µs a request".into(),
                section.cell("load, core-µs a request"),
            ],
        ],
    );
}

fn add_plots(section: &mut Section, clients: &[u16]) {
    let line = |name: &str| {
        let point = |&clients: &u16| (f64::from(clients), section.median(&figure(clients, name)));
        clients.iter().map(point).collect::<Vec<_>>()
    };
    let tps = section.median(TPS_FIGURE);
    let yardstick = clients.iter().map(|&clients| (f64::from(clients), tps)).collect();
    let rates = Plot {
        file: "end-to-end".into(),
        title: "Deposits settled a second".into(),
        x: "clients".into(),
        y: "a second".into(),
        lines: vec![
            ("settled".into(), line("settled a second")),
            ("pgbench -N -c 32".into(), yardstick),
        ],
    };
    let latencies = Plot {
        file: "end-to-end-latency".into(),
        title: "Latency in a closed loop".into(),
        x: "clients".into(),
        y: "ms".into(),
        lines: ["settle p99, ms", "settle p50, ms", "accept p99, ms", "accept p50, ms"]
            .map(|name| (name.trim_end_matches(", ms").to_owned(), line(name)))
            .to_vec(),
    };
    section.plots.extend([rates, latencies]);
}

fn add_goals(section: &mut Section) {
    let rate = section.ratio(WRK_DIRECT, TPS_FIGURE);
    let [p50, p99] = ["open loop: settle p50, ms", "open loop: settle p99, ms"]
        .map(|figure| section.ratio(figure, LATENCY_FIGURE));
    section.goals.extend([
        Goal::new(
            "settled deposits a second, single requests by wrk, relative to pgbench -N",
            Bound::AtLeast(3.0),
            "×",
            rate,
        ),
        Goal::new(
            "settle latency at a quarter of the maximum rate: p50 relative to pgbench -c 1",
            Bound::AtMost(10.0),
            "×",
            p50,
        ),
        Goal::new(
            "settle latency at a quarter of the maximum rate: p99 relative to pgbench -c 1",
            Bound::AtMost(50.0),
            "×",
            p99,
        ),
    ]);
}
