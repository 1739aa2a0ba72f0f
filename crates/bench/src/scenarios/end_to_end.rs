//! HTTP deposit until SUCCESS: how many a second, and how long one takes.

use std::time::Duration;

use anyhow::Result;
use load::{Answer, Choice, Mix, Pace, Plan, Shape};

use crate::{
    Bench,
    pgbench::Pgbench,
    section::{Bound, Goal, Plot, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single deposits to 10,000 accounts, two replicas of each service. Closed \
loop: each client sends its next request once it has its answer. Settled a second: records \
settled over the time from the first request until the last record is settled. Open loop: \
requests are due at even times, at a quarter of the highest rate of the closed loop, and each \
waits for its settled record (`Prefer: wait`); its time counts from when it was due. In turn with \
each repetition: `pgbench -N`, scale 10, on the same server, 32 clients (transactions a second) \
and 1 client (mean latency).";

pub(super) const PGBENCH: &str = "pgbench -N -c 32, tps";
const PGBENCH_LATENCY: &str = "pgbench -N -c 1, mean latency, ms";

/// Accounts that money is spread over.
pub(super) const ACCOUNTS: usize = 10_000;

/// Deposits, one a request, of accounts drawn alike.
pub(super) const fn deposits(pace: Pace, time: Duration, answer: Answer) -> Plan {
    let mix = Mix { withdrawals: 0.0, refused: 0.0 };
    Plan { pace, time, answer, choice: Choice::Uniform, mix, shape: Shape::Single }
}

/// Brings caches, connections and plans to where they stay. Not measured.
pub(super) async fn warm_up(bench: &Bench, stack: &Stack, accounts: &[String]) -> Result<()> {
    let time = Duration::from_secs(bench.size(4, 2));
    let plan = deposits(Pace::Closed { clients: 64 }, time, Answer::Accepted);
    stack.load(accounts, plan).await.map(drop)
}

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("end-to-end", "End to end", ABOUT, bench.quick);
    section.machine = stack.machine.clone();
    let pgbench = Pgbench::prepare(&stack.file).await?;
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let clients: &[u16] = bench.size(&[1, 4, 16, 64, 256], &[1, 64, 256]);
    let seconds = Duration::from_secs(bench.size(4, 2));
    for _ in 0..bench.repetitions() {
        let yardstick = pgbench.measure(32, bench.size(6, 4)).await?;
        section.note(PGBENCH, yardstick.tps);
        for &clients in clients {
            let plan = deposits(Pace::Closed { clients }, seconds, Answer::Accepted);
            let report = stack.load(&accounts, plan).await?;
            section.note(of(clients, "settled a second"), report.settled_per_second);
            section.note(of(clients, "accepted a second"), report.accepted_per_second);
            section.note(of(clients, "accept p50, ms"), report.latency.p50);
            section.note(of(clients, "accept p99, ms"), report.latency.p99);
            section.note("load, core-µs a request", report.cpu_micros_per_request);
        }
    }
    for &clients in clients {
        let plan = deposits(Pace::Closed { clients }, seconds, Answer::Settled);
        let report = stack.load(&accounts, plan).await?;
        section.note(of(clients, "settle p50, ms"), report.latency.p50);
        section.note(of(clients, "settle p99, ms"), report.latency.p99);
    }
    let highest = highest(&section, clients);
    open_loop(bench, &stack, &pgbench, &accounts, highest / 4.0, &mut section).await?;
    stack.finish().await?;
    conclude(&mut section, clients, highest);
    Ok(section)
}

/// The name of a figure at so many clients.
fn of(clients: u16, what: &str) -> String {
    format!("{clients} clients: {what}")
}

fn highest(section: &Section, clients: &[u16]) -> f64 {
    let rate = |&clients: &u16| section.median(&of(clients, "settled a second"));
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
        let one = pgbench.measure(1, bench.size(4, 2)).await?;
        section.note(PGBENCH_LATENCY, one.latency);
        let pace = Pace::Open { rate, connections: 256 };
        let time = Duration::from_secs(bench.size(6, 3));
        let settled = stack.load(accounts, deposits(pace, time, Answer::Settled)).await?.latency;
        for (name, figure) in [
            ("p50", settled.p50),
            ("p90", settled.p90),
            ("p99", settled.p99),
            ("p99.9", settled.p99_9),
            ("longest", settled.max),
        ] {
            section.note(format!("open loop: settle {name}, ms"), figure);
        }
        let accepted = stack.load(accounts, deposits(pace, time, Answer::Accepted)).await?.latency;
        section.note("open loop: accept p50, ms", accepted.p50);
        section.note("open loop: accept p99, ms", accepted.p99);
    }
    Ok(())
}

fn conclude(section: &mut Section, clients: &[u16], highest: f64) {
    let row = |&clients: &u16| {
        let cell = |what| section.cell(&of(clients, what));
        let figures = [
            "settled a second",
            "accept p50, ms",
            "accept p99, ms",
            "settle p50, ms",
            "settle p99, ms",
        ];
        std::iter::once(clients.to_string()).chain(figures.map(cell)).collect()
    };
    let rows = clients.iter().map(row).collect();
    let tps = section.median(PGBENCH);
    section.table(
        &["clients", "settled a second", "accept p50, ms", "p99", "settle p50, ms", "p99"],
        rows,
    );
    let latency = section.median(PGBENCH_LATENCY);
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
            let times = section.median(&figure) / latency.max(1e-9);
            vec![format!("{name}, ms"), section.cell(&figure), format!("{times:.1} ×")]
        })
        .collect();
    rows.push(vec![PGBENCH_LATENCY.into(), section.cell(PGBENCH_LATENCY), "1 ×".into()]);
    section.table(&["open loop at a quarter of the maximum", "", "of pgbench -c 1"], rows);
    section.table(
        &["yardstick", ""],
        vec![
            vec![PGBENCH.into(), section.cell(PGBENCH)],
            vec![
                "load generator, core-µs a request".into(),
                section.cell("load, core-µs a request"),
            ],
        ],
    );
    let line = |what: &str| {
        let at = |&clients: &u16| (f64::from(clients), section.median(&of(clients, what)));
        clients.iter().map(at).collect::<Vec<_>>()
    };
    let across = clients.iter().map(|&clients| (f64::from(clients), tps)).collect();
    let plot = Plot {
        file: "end-to-end".into(),
        title: "Deposits settled a second".into(),
        x: "clients".into(),
        y: "a second".into(),
        lines: vec![
            ("settled".into(), line("settled a second")),
            ("pgbench -N -c 32".into(), across),
        ],
    };
    let latencies = Plot {
        file: "end-to-end-latency".into(),
        title: "Latency in a closed loop".into(),
        x: "clients".into(),
        y: "ms".into(),
        lines: ["settle p99, ms", "settle p50, ms", "accept p99, ms", "accept p50, ms"]
            .map(|what| (what.trim_end_matches(", ms").to_owned(), line(what)))
            .to_vec(),
    };
    section.plots.extend([plot, latencies]);
    let of = |name: &str| section.ratio(name, PGBENCH_LATENCY);
    let [p50, p99] = ["open loop: settle p50, ms", "open loop: settle p99, ms"].map(of);
    let times = if tps > 0.0 { highest / tps } else { 0.0 };
    section.goals.extend([
        Goal::new(
            "settled deposits a second, single requests, of pgbench -N",
            Bound::AtLeast(3.0),
            "×",
            times,
        ),
        Goal::new(
            "settle latency at a quarter of the maximum: p50 of pgbench -c 1",
            Bound::AtMost(10.0),
            "×",
            p50,
        ),
        Goal::new(
            "settle latency at a quarter of the maximum: p99 of pgbench -c 1",
            Bound::AtMost(50.0),
            "×",
            p99,
        ),
    ]);
}
