//! One run, from the first request until the last record is settled.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::{
    Plan, Report, Target,
    choice::Draw,
    client::{self, Shared},
    connection::Connection,
    cost::processor_time,
    report::Took,
    request::Requests,
    schedule::Schedule,
    settled::{Counters, books_since},
    tally::Tally,
};

/// Between looks at the counters while requests are sent.
const LOOK: Duration = Duration::from_millis(250);
/// Between looks once the last answer is here: how exact the end is.
const LAST_LOOKS: Duration = Duration::from_millis(10);
/// With nothing settled for so long, nothing will be. A redrive that has come
/// to its fourth attempt waits longer; a system in that state is not measured.
const STALLED: Duration = Duration::from_secs(60);
/// What is on its way when the time is over may take so long.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Since the first request.
    pub since: Duration,
    /// Movements accepted so far.
    pub accepted: u64,
    /// Records settled so far, of anybody's.
    pub settled: u64,
}

/// Moves money of these accounts as planned, and waits until all of it is
/// settled. Has to run on a runtime of one thread: more would take processors
/// from what is measured.
///
/// What was answered otherwise than by an acceptance is counted in the report,
/// and is no error.
///
/// # Errors
/// When a replica can't be reached, or the database does not tell.
pub async fn run(
    target: &Target,
    accounts: &[String],
    plan: Plan,
    mut seen: impl FnMut(Progress),
) -> Result<Report> {
    let mut counters = Counters::begin(target).await?;
    let draw = Draw::new(accounts, plan.choice, plan.mix)?;
    let requests = Requests::new(&target.token, plan.answer);
    let connections = connect(target, plan.pace.connections()).await?;
    let (wall, begun, processor) = (SystemTime::now(), Instant::now(), processor_time());
    let shared = Arc::new(Shared {
        requests,
        draw,
        shape: plan.shape,
        schedule: Schedule::begin(plan.pace, plan.time),
        tally: Mutex::new(Tally::new()?),
    });
    let mut clients = JoinSet::new();
    for (address, connection) in connections {
        let shared = Arc::clone(&shared);
        clients.spawn(async move { client::run(&shared, connection, address).await });
    }
    let progress =
        |settled| Progress { since: begun.elapsed(), accepted: shared.tally().accepted, settled };
    let mut look = tokio::time::interval(LOOK);
    look.tick().await;
    let longest = plan.time + LAST_ANSWERS;
    while !clients.is_empty() {
        ensure!(begun.elapsed() < longest, "requests are not answered for {LAST_ANSWERS:?}");
        tokio::select! {
            Some(ended) = clients.join_next() => ended.context("a client")?,
            _ = look.tick() => seen(progress(counters.settled().await?)),
        }
    }
    let (answered, processor) = (begun.elapsed(), processor_time().saturating_sub(processor));
    let accepted = shared.tally().accepted;
    let (mut last, mut changed) = (0, Instant::now());
    let (books, settled) = loop {
        let now = counters.settled().await?;
        if now > last {
            (last, changed) = (now, Instant::now());
        }
        seen(progress(now));
        let stalled = changed.elapsed() > STALLED;
        if now >= accepted || stalled {
            // Somebody else's records are in the counters, too: the database knows whose.
            let settled = begun.elapsed();
            let books = books_since(target, accounts, wall).await?;
            if books.pending == 0 || stalled {
                break (books, settled);
            }
        }
        tokio::time::sleep(LAST_LOOKS).await;
    };
    let took = Took { answered, settled, processor };
    Ok(Report::new(&shared.requests.keys, &shared.tally(), books, took))
}

/// So many connections, to each replica in turn.
pub(crate) async fn connect(
    target: &Target,
    connections: u16,
) -> Result<Vec<(std::net::SocketAddr, Connection)>> {
    let mut open = Vec::new();
    for address in target.replicas.iter().cycle().take(connections.into()) {
        let connection = Connection::open(*address).await;
        open.push((*address, connection.with_context(|| format!("connecting to {address}"))?));
    }
    Ok(open)
}
