//! Runs an experiment: causes its disruptions under load, undoes them all, then
//! checks the system against the history of its clients.

mod actions;

use std::{
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use async_nats::jetstream;
use devstack::{Fault, FaultClient};
use tokio::{
    sync::RwLock,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    checker::{
        Records, SETTLED_WITHIN, contradiction, drained, replayed, settled, stored,
        unexpected_dead_letters,
    },
    databases,
    events::Consumer,
    load::{History, Load},
    plan::{Disruption, Experiment},
    report::{Recovery, Report},
    streams,
};
use crate::{
    Client, Stack, broker,
    client::new_key,
    faketime::{self, Clock},
    invariants,
    memory::MemorySampler,
    scale,
};

/// How long a deposit may take to settle after the end of a disruption.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
/// Limit for one request to NATS or PostgreSQL, which may be down.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Prints each event with the time since the start.
#[derive(Clone)]
struct Timeline(Instant);

impl Timeline {
    fn log(&self, event: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{:>7.2} s  {event}", self.0.elapsed().as_secs_f64());
    }
}

/// Runs the experiment on a stack of its own in `dir`.
///
/// With `keep`, the data and logs stay if there is a finding.
pub async fn run(experiment: &Experiment, dir: &Path, keep: bool) -> Report {
    let Experiment { name, disruptions, clients, cluster, message_parts, clock_of } = experiment;
    let nodes = if *cluster { "3" } else { "1" };
    let library = experiment.sets_clock().then(faketime::find).flatten();
    let clock = library.map(|_| Clock::right(dir.with_extension("clock"), clock_of));
    let mut settings = clock.as_ref().map(Clock::settings).unwrap_or_default();
    settings.push(format!("PASSBOOK_MESSAGE_PARTS={message_parts}"));
    let release: &[&str] = if scale::full() { &["--release"] } else { &[] };
    let arguments = [&["--port", "0", "--faults", "--nats-nodes", nodes], release].concat();
    let stack = Stack::start_under(dir, &settings, &arguments).await;
    let timeline = Timeline(Instant::now());
    let disruptions_count = disruptions.len();
    timeline.log(&format!(
        "{name}: {disruptions_count} disruptions, {clients} clients, at most {message_parts} \
         commands a message"
    ));
    let memory = MemorySampler::start(&stack);
    let consumer = Consumer::start(&stack);
    let load = Load::start(&stack, *clients, 50).await;
    let runner = Runner {
        faults: FaultClient::of(&stack.file()).unwrap(),
        stack,
        cluster: *cluster,
        load,
        consumer,
        clock,
        timeline,
        start: Instant::now(),
        nodes: RwLock::default(),
        active: Mutex::default(),
        recoveries: Mutex::new(Vec::new()),
    };
    let runner = Arc::new(runner);
    let mut tasks = JoinSet::new();
    for disruption in disruptions.iter().cloned() {
        let runner = Arc::clone(&runner);
        tasks.spawn(async move { runner.disrupt(disruption).await });
    }
    let mut stopped = Vec::new();
    while let Some(task) = tasks.join_next().await {
        stopped.extend(task.err().map(|panic| panic.to_string()));
    }
    let (mut report, stack) = Arc::into_inner(runner).unwrap().check(experiment).await;
    report.findings.extend(stopped);
    report.memory = memory.finish().await;
    if keep && !report.findings.is_empty() {
        println!("the data and logs stay in {}", stack.keep().display());
    }
    report
}

/// The number of disruptions.
#[derive(Debug, Default, Clone, Copy)]
struct Active {
    now: usize,
    /// Including those that have ended.
    begun: usize,
}

struct Runner {
    stack: Stack,
    cluster: bool,
    faults: FaultClient,
    load: Load,
    consumer: Consumer,
    /// None without libfaketime, or if no disruption needs it.
    clock: Option<Clock>,
    timeline: Timeline,
    start: Instant,
    /// Read while a node of a cluster may be away, written while none may be.
    nodes: RwLock<()>,
    active: Mutex<Active>,
    recoveries: Mutex<Vec<Recovery>>,
}

impl Runner {
    async fn disrupt(&self, disruption: Disruption) {
        sleep_until(self.start + disruption.at).await;
        let name = disruption.to_string();
        self.timeline.log(&name);
        {
            let mut active = self.active.lock().unwrap();
            active.now += 1;
            active.begun += 1;
        }
        if let Err(error) = self.perform(&disruption).await {
            // Two disruptions may overlap: the target of a kill may be gone already.
            self.timeline.log(&format!("  {name}: failed: {error:#}"));
        }
        let at_end = {
            let mut active = self.active.lock().unwrap();
            active.now -= 1;
            *active
        };
        let end = Instant::now();
        let settled = timeout(RECOVERED_WITHIN, self.deposit_settles()).await;
        let took = end.elapsed();
        let undisturbed = at_end.now == 0 && self.active.lock().unwrap().begun == at_end.begun;
        let note = if undisturbed { "" } else { " (other disruptions meanwhile)" };
        let seconds = took.as_secs_f64();
        let outcome =
            if settled.is_ok() { "a deposit settled after" } else { "no deposit settled for" };
        self.timeline.log(&format!("  {name}: ended; {outcome} {seconds:.2} s{note}"));
        self.recoveries.lock().unwrap().push(Recovery { disruption: name, took, undisturbed });
    }

    async fn broker(&self) -> Result<jetstream::Context> {
        let connected = timeout(REQUEST_LIMIT, broker::try_connect(&self.stack)).await;
        connected.context("NATS is down")?
    }

    /// Returns once a deposit requested now is settled.
    async fn deposit_settles(&self) {
        let file = self.stack.file();
        let client = Client::with_timeout(&file.api, &file.tokens.teller, Duration::from_secs(5));
        let (account, key) = (&self.load.accounts[0], new_key());
        loop {
            match client.try_movement("deposits", account, "1", &key, Some(2)).await {
                Ok(response) if response.status == 200 => return,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Undoes all faults, in the databases and streams too.
    async fn undo_all(&self) -> Result<()> {
        for (target, undo) in [("*", Fault::Release), ("*", Fault::Thaw), ("*", Fault::Pass)] {
            let _ = self.faults.inject(target, undo).await;
        }
        if let Some(clock) = &self.clock {
            clock.jump("+0");
        }
        let databases = ["account", "transaction"];
        databases::undone(|| databases::set_read_only(&self.stack, &databases, false)).await?;
        databases::undone(|| databases::set_absent_standby(&self.stack, false)).await?;
        databases::undone(|| async { streams::reset_all_limits(&self.broker().await?).await }).await
    }

    /// Undoes all faults, lets the clients finish, and checks every invariant.
    async fn check(self, experiment: &Experiment) -> (Report, Stack) {
        let undone = self.undo_all().await;
        let mut report =
            Report { recoveries: self.recoveries.into_inner().unwrap(), ..Report::default() };
        if let Err(error) = undone {
            report.findings.push(format!("a fault can't be undone: {error:#}"));
        }
        let end = Instant::now();
        self.timeline.log("all disruptions have ended; the clients finish");
        let history = self.load.finish().await;
        let (stack, timeline) = (self.stack, self.timeline);
        let settled = settled(&stack).await;
        report.settled_after = end.elapsed();
        let seconds = report.settled_after.as_secs_f64();
        timeline.log(&format!("no record is PENDING any more, {seconds:.1} s later"));
        check_records(&mut report, &timeline, &stack, history, settled).await;
        match self.consumer.findings(&stack).await {
            Ok(findings) => report.findings.extend(findings),
            Err(error) => report.findings.push(format!("the events: {error:#}")),
        }
        timeline.log("a consumer has read all events");
        for Recovery { disruption, .. } in
            report.recoveries.iter().filter(|recovery| recovery.took >= RECOVERED_WITHIN)
        {
            report
                .findings
                .push(format!("after {disruption}: no deposit settled for {RECOVERED_WITHIN:?}"));
        }
        match drained(&stack).await {
            Ok(()) => timeline.log("the queues are empty"),
            Err(error) => report.findings.push(format!("{error:#}")),
        }
        match timeout(Duration::from_secs(60), unexpected_dead_letters(&stack)).await {
            Ok(unexpected) => report.findings.extend(unexpected),
            Err(_) => report.findings.push("the dead letters can't be read".to_owned()),
        }
        // A cluster may still be electing the leader of a stream.
        let (mut code, mut verified) = invariants::verify(&stack).await;
        while code == 2 && end.elapsed() < SETTLED_WITHIN {
            (code, verified) = invariants::verify(&stack).await;
        }
        let is_dated = experiment.dates_in_the_future() && invariants::only_dated(&verified);
        if code != 0 && !is_dated {
            report.findings.push(format!("passbook verify: {verified:#}"));
        }
        timeline.log("passbook verify has run");
        (report, stack)
    }
}

/// Compares the records with all that the clients observed, and repeats the requests with an
/// unknown outcome.
async fn check_records(
    report: &mut Report,
    timeline: &Timeline,
    stack: &Stack,
    history: History,
    settled: Result<Records>,
) {
    let unknown = history.unknown();
    let History { accepted, responses, unexpected, not_stored, .. } = history;
    let unexpected = unexpected.into_iter();
    report.findings.extend(unexpected.map(|response| format!("unexpected: {response}")));
    (report.accepted, report.responses) = (accepted.len(), responses);
    let records = match settled {
        Ok(records) => records,
        Err(error) => {
            report.findings.push(format!("{error:#}"));
            return;
        }
    };
    let contradictions = accepted
        .iter()
        .filter_map(|accepted| contradiction(accepted, records.get(&accepted.record)));
    report.findings.extend(contradictions);
    report.findings.extend(stored(&not_stored, &records));
    report.refused = records.values().filter(|record| record.status == "FAILED").count();
    report.findings.extend(replayed(stack, &unknown, &records).await);
    timeline.log(&format!(
        "{} keys were answered \"not stored\"; {} with an unknown outcome were repeated",
        not_stored.len(),
        unknown.len()
    ));
}
