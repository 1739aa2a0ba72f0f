//! Runs a plan, from the first request until the last record is settled.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::{
    Plan, Report, Target,
    client::{self, Shared},
    connection::Connection,
    processor_time::processor_time,
    report::RunTimes,
    request::RequestWriter,
    sampler::Sampler,
    schedule::Schedule,
    settlement::{RecordCounts, SettledCounters, count_records},
    tally::Tally,
};

/// Interval between reads of the counters while requests are sent.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between reads of the counters after the last response. It limits
/// the accuracy of the end time.
const SETTLING_INTERVAL: Duration = Duration::from_millis(10);
/// The same for a system that is reached by its API only.
const COUNTING_INTERVAL: Duration = Duration::from_secs(1);
/// Without a newly settled record for this time, the run ends. Redrives from the
/// fourth attempt on wait longer, but a system in that state is not measured.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for the last responses after the last request.
const RESPONSE_LIMIT: Duration = Duration::from_secs(60);

/// The progress of a run.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Time since the first request.
    pub elapsed: Duration,
    /// Movements accepted so far.
    pub accepted: u64,
    /// Records settled so far, including those of other clients.
    pub settled: u64,
}

/// Moves the money of these accounts according to the plan, and waits until
/// every record is settled. Must run on a single-threaded runtime, because more
/// threads would take processors from the measured system.
///
/// Unexpected responses are not errors. They are counted in the report.
///
/// # Errors
/// A replica can't be reached, responses are missing, or the database query
/// failed.
pub async fn run(
    target: &Target,
    accounts: &[String],
    plan: Plan,
    mut on_progress: impl FnMut(Progress),
) -> Result<Report> {
    let mut counters = SettledCounters::begin(target).await?;
    let is_outside = target.admins.is_empty();
    let earlier = if is_outside {
        count_records(target, accounts, SystemTime::now()).await?
    } else {
        RecordCounts::default()
    };
    let sampler = Sampler::new(accounts, plan.distribution, plan.mix)?;
    let writer = RequestWriter::new(target, plan.wait_for);
    let connections = connect(target, plan.pace.connections()).await?;
    let (since, begun, processor) = (SystemTime::now(), Instant::now(), processor_time());
    let shared = Arc::new(Shared {
        writer,
        sampler,
        shape: plan.shape,
        schedule: Schedule::begin(plan.pace, plan.duration),
        tally: Mutex::new(Tally::new()?),
    });
    let mut clients = JoinSet::new();
    for (address, connection) in connections {
        let shared = Arc::clone(&shared);
        clients.spawn(async move { client::run(&shared, connection, address).await });
    }
    let progress =
        |settled| Progress { elapsed: begun.elapsed(), accepted: shared.tally().accepted, settled };
    let mut interval = tokio::time::interval(PROGRESS_INTERVAL);
    interval.tick().await;
    let limit = plan.duration + RESPONSE_LIMIT;
    while !clients.is_empty() {
        ensure!(
            begun.elapsed() < limit,
            "responses are still missing {RESPONSE_LIMIT:?} after the last request"
        );
        tokio::select! {
            Some(ended) = clients.join_next() => ended.context("a client task failed")?,
            _ = interval.tick() => on_progress(progress(counters.settled().await?)),
        }
    }
    let (responses, processor) = (begun.elapsed(), processor_time().saturating_sub(processor));
    let accepted = shared.tally().accepted;
    let (mut settled, mut changed) = (0, Instant::now());
    let (records, settlement) = loop {
        let current = counters.settled().await?;
        if current > settled {
            (settled, changed) = (current, Instant::now());
        }
        on_progress(progress(current));
        let stalled = changed.elapsed() > STALL_LIMIT;
        if is_outside || current >= accepted || stalled {
            // The counters include records of other clients. Only the database tells them apart.
            let settlement = begun.elapsed();
            let records = count_records(target, accounts, since).await?.without(earlier);
            if records.pending == 0 || stalled {
                break (records, settlement);
            }
            let current = records.total.saturating_sub(records.pending);
            if is_outside && current > settled {
                (settled, changed) = (current, Instant::now());
            }
        }
        let interval = if is_outside { COUNTING_INTERVAL } else { SETTLING_INTERVAL };
        tokio::time::sleep(interval).await;
    };
    let times = RunTimes { responses, settlement, processor };
    Ok(Report::new(&shared.writer.key_prefix, &shared.tally(), records, times))
}

/// Opens connections to the replicas in turn.
pub(crate) async fn connect(
    target: &Target,
    connections: u16,
) -> Result<Vec<(SocketAddr, Connection)>> {
    let mut open = Vec::new();
    for address in target.replicas.iter().cycle().take(connections.into()) {
        let connection = Connection::open(*address).await;
        open.push((*address, connection.with_context(|| format!("connecting to {address}"))?));
    }
    Ok(open)
}
