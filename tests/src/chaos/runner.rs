//! Runs an experiment: causes its disruptions under load, undoes them all, then
//! checks the system against the history of its clients.

use std::{
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use async_nats::{HeaderMap, jetstream};
use devstack::{Fault, FaultClient};
use futures::future::try_join_all;
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
    messages::{Message, forged_results, large_poison, poison, repeated_commands, with_long_ids},
    plan::{Action, Disruption, Experiment},
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

    /// Performs the action and, after its duration, undoes it.
    async fn perform(&self, disruption: &Disruption) -> Result<()> {
        let duration = disruption.duration.unwrap_or_default();
        match &disruption.action {
            Action::Fault { target, fault: Fault::Wipe, .. } => {
                let _away = self.nodes.read().await;
                self.wipe(target, disruption.to_string()).await
            }
            Action::Fault { target, fault, undo } => {
                let of_a_node = streams::is_of_a_node(target);
                let _away = if of_a_node { Some(self.nodes.read().await) } else { None };
                let injected = self.faults.inject(target, *fault).await;
                sleep(duration).await;
                if let Some(undo) = undo {
                    // A process killed meanwhile can't be thawed.
                    let _ = self.faults.inject(target, *undo).await;
                }
                injected.map(drop)
            }
            Action::ExhaustConnections => {
                let connections = databases::take_connections(&self.stack).await;
                self.faults.inject("*/postgres", Fault::Cut).await?;
                sleep(duration).await;
                drop(connections);
                Ok(())
            }
            Action::HoldRows(databases, count) => {
                let hold = |name| databases::hold_rows(&self.stack, name, *count);
                let holders = try_join_all(databases.iter().copied().map(hold));
                let holders = timeout(REQUEST_LIMIT, holders).await??;
                sleep(duration).await;
                drop(holders);
                Ok(())
            }
            Action::ReadOnly(databases) => {
                databases::set_read_only(&self.stack, databases, true).await?;
                let cut = self.faults.inject("*/postgres", Fault::Cut).await;
                sleep(duration).await;
                databases::undone(|| databases::set_read_only(&self.stack, databases, false))
                    .await?;
                cut.map(drop)
            }
            Action::AwaitStandby => {
                databases::set_absent_standby(&self.stack, true).await?;
                sleep(duration).await;
                databases::undone(|| databases::set_absent_standby(&self.stack, false)).await
            }
            Action::SetClock(offset) => {
                let clock = self.clock.as_ref().context("libfaketime is not installed")?;
                clock.jump(offset);
                sleep(duration).await;
                clock.jump("+0");
                Ok(())
            }
            Action::LimitStream(stream, bytes) => {
                // Each node discards from its own copy. One that is away then discards nothing, and
                // what the others discarded comes back once it leads.
                let _whole = if self.cluster && *stream == contract::TRANSACTION_RESULT {
                    let whole = self.nodes.write().await;
                    let is_whole = || async { streams::replicated(&self.broker().await?).await };
                    databases::undone(is_whole).await.context("the cluster is not whole")?;
                    Some(whole)
                } else {
                    None
                };
                self.limit(stream, duration, |config| config.max_bytes = *bytes).await
            }
            Action::LimitMessages(stream, bytes) => {
                self.limit(stream, duration, |config| config.max_message_size = *bytes).await
            }
            Action::RestoreStore => {
                streams::copy_store(&self.stack, &self.faults).await?;
                sleep(duration).await;
                streams::restore_copy(&self.stack, &self.faults).await
            }
            Action::RepeatCommands(count) => {
                let recent = self.load.recent((*count).into());
                publish_all(&self.broker().await?, repeated_commands(&recent)).await
            }
            Action::PublishPoison(count) => {
                publish_all(&self.broker().await?, (0..*count).map(poison).collect()).await
            }
            Action::PublishLargePoison(count) => {
                let jetstream = self.broker().await?;
                let largest = jetstream.client().max_payload();
                let messages = (0..*count).map(|number| large_poison(number, largest));
                publish_all(&jetstream, messages.collect()).await
            }
            Action::PublishLongIds(count) => {
                let messages = with_long_ids(&self.load.recent(usize::from(*count).div_ceil(2)));
                publish_with_ids(&self.broker().await?, messages).await
            }
            Action::PublishForgedResults(count) => {
                let recent = self.load.recent((*count).into());
                publish_all(&self.broker().await?, forged_results(&recent)).await
            }
            Action::DeleteStream(stream) => {
                let jetstream = self.broker().await?;
                timeout(REQUEST_LIMIT, jetstream.delete_stream(stream)).await??;
                Ok(())
            }
            Action::PurgeStream(stream) => {
                let jetstream = self.broker().await?;
                let purge =
                    async { Ok(jetstream.get_stream_no_info(stream).await?.purge().await?) };
                timeout(REQUEST_LIMIT, purge).await?.map(drop)
            }
            Action::DeleteConsumer(stream, consumer) => {
                let jetstream = self.broker().await?;
                let delete = jetstream.delete_consumer_from_stream(consumer, stream);
                timeout(REQUEST_LIMIT, delete).await??;
                Ok(())
            }
            Action::StepDown(stream) => {
                let jetstream = self.broker().await?;
                let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
                let client = jetstream.client();
                let request = client.request(subject, "".into());
                timeout(REQUEST_LIMIT, request).await??;
                Ok(())
            }
        }
    }

    /// Wipes the broker, or a node of a cluster that is whole. Otherwise all nodes are wiped at
    /// once: one after the other, they could leave a stream with messages that no node has.
    async fn wipe(&self, broker: &str, name: String) -> Result<()> {
        let whole = async { streams::replicated(&self.broker().await?).await };
        if broker == streams::BROKER || whole.await.is_ok() {
            return self.faults.inject(broker, Fault::Wipe).await.map(drop);
        }
        self.timeline.log(&format!("  {name}: the cluster is not whole: all nodes are wiped"));
        for fault in [Fault::Hold, Fault::Wipe, Fault::Release] {
            self.faults.inject("nats-*", fault).await?;
        }
        Ok(())
    }

    /// Changes a stream, and sets its limits as before after this time.
    async fn limit(
        &self,
        stream: &str,
        duration: Duration,
        change: impl FnOnce(&mut jetstream::stream::Config),
    ) -> Result<()> {
        let changed = async { streams::reconfigure(&self.broker().await?, stream, change).await };
        let changed = changed.await;
        sleep(duration).await;
        // A change without an answer may have been made.
        let reset = || async { streams::reset_limits(&self.broker().await?, stream).await };
        databases::undone(reset).await?;
        changed
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

/// Publishes all messages, many at a time, and awaits their PubAcks.
async fn publish_all(jetstream: &jetstream::Context, messages: Vec<Message>) -> Result<()> {
    publish_with_ids(jetstream, messages.into_iter().map(|message| (new_key(), message))).await
}

/// As [`publish_all`], with these message ids.
async fn publish_with_ids(
    jetstream: &jetstream::Context,
    messages: impl IntoIterator<Item = (String, Message)>,
) -> Result<()> {
    let publish = messages.into_iter().map(|(id, (subject, payload))| async move {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        let sent = jetstream.publish_with_headers(subject.to_owned(), headers, payload.into());
        sent.await?.await.map_err(|error| anyhow!(error))
    });
    timeout(REQUEST_LIMIT, try_join_all(publish)).await??;
    Ok(())
}
