//! What a receiver of webhooks that hangs costs the way of money.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use client::{Method, Request};
use load::{Pace, WaitFor};
use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinSet};

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    api,
    bench::Bench,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single deposits to 10,000 accounts of one owner, in an open loop at a quarter \
of the closed loop's highest rate, with one replica of the webhook-service: without an endpoint, \
and with one endpoint of this owner whose receiver accepts connections and never answers. Each \
request waits for its settled record (`Prefer: wait`), in a second run for its acceptance only.";

const RATE: &str = "closed loop, settled a second";
const WITHOUT: &str = "no endpoint";
const HANGING: &str = "an endpoint that hangs";
const PERCENTILES: [&str; 4] = ["settle p50", "settle p99", "accept p50", "accept p99"];

fn figure(case: &str, percentile: &str) -> String {
    format!("{case}: {percentile}, ms")
}

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("webhooks", "A webhook that hangs", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let duration = Duration::from_secs(bench.size(4, 2));
    let plan = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    section.note(RATE, stack.load(&accounts, plan).await?.settled_per_second);
    let rate = section.median(RATE) / 4.0;
    for repetition in 0..bench.repetitions() {
        // Latencies rise with the number of records. So the cases take turns at being first.
        if repetition % 2 == 0 {
            measure(bench, &stack, &accounts, rate, WITHOUT, &mut section).await?;
        }
        measure_hanging(bench, &stack, &accounts, rate, &mut section).await?;
        if repetition % 2 == 1 {
            measure(bench, &stack, &accounts, rate, WITHOUT, &mut section).await?;
        }
    }
    stack.finish().await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let row = |percentile: &str| {
        let [without, hanging] = [WITHOUT, HANGING].map(|case| figure(case, percentile));
        let ratio = format!("{:.2} ×", section.ratio(&hanging, &without));
        vec![format!("{percentile}, ms"), section.cell(&without), section.cell(&hanging), ratio]
    };
    let rows = PERCENTILES.map(row).to_vec();
    section.table(&["", WITHOUT, HANGING, "relative"], rows);
    for (percentile, bound) in [("settle p50", 1.1), ("settle p99", 1.25)] {
        let ratio = section.ratio(&figure(HANGING, percentile), &figure(WITHOUT, percentile));
        let name = format!("{percentile} with a webhook that hangs, relative to none");
        section.goals.push(Goal::new(&name, Bound::AtMost(bound), "×", ratio));
    }
}

async fn measure_hanging(
    bench: &Bench,
    stack: &Stack,
    accounts: &[String],
    rate: f64,
    section: &mut Section,
) -> Result<()> {
    let receiver = HangingReceiver::start().await?;
    let (token, path) = (&stack.target.token, "/v1/webhook-endpoints");
    let body = json!({ "url": receiver.url });
    let created = api::request(stack, token, &Request::post(path, &body)?).await?;
    measure(bench, stack, accounts, rate, HANGING, section).await?;
    let requests = receiver.requests.load(Ordering::Relaxed);
    ensure!(requests > 0, "the receiver of webhooks got no request");
    let path = format!("{path}/{}", api::text(&created, "/webhookEndpointId")?);
    api::request(stack, token, &Request::new(Method::DELETE, path)).await?;
    Ok(())
}

async fn measure(
    bench: &Bench,
    stack: &Stack,
    accounts: &[String],
    rate: f64,
    case: &str,
    section: &mut Section,
) -> Result<()> {
    let pace = Pace::Open { rate, connections: 256 };
    let duration = Duration::from_secs(bench.size(8, 4));
    let settled = stack.load(accounts, deposits(pace, duration, WaitFor::Settled)).await?.latency;
    let accepted = stack.load(accounts, deposits(pace, duration, WaitFor::Accepted)).await?.latency;
    let latencies = [settled.p50, settled.p99, accepted.p50, accepted.p99];
    for (percentile, latency) in PERCENTILES.into_iter().zip(latencies) {
        section.note(figure(case, percentile), latency);
    }
    Ok(())
}

/// Accepts connections, reads what arrives, and never answers.
#[derive(Debug)]
struct HangingReceiver {
    url: String,
    /// Connections on which something has arrived.
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl HangingReceiver {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let (mut tasks, requests) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        tasks.spawn(accept(listener, Arc::clone(&requests)));
        Ok(Self { url, requests, _tasks: tasks })
    }
}

async fn accept(listener: TcpListener, requests: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let requests = Arc::clone(&requests);
        connections.spawn(async move {
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                requests.fetch_add(1, Ordering::Relaxed);
            }
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
    }
}
