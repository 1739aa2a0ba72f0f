//! Carries a plan out under load, ends all troubles, and holds the system to
//! what its clients were told.

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
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    SETTLED_WITHIN,
    load::{Accepted, Load, Told},
    plan::{Trouble, What, plan},
    report::{Recovery, Report},
    truth::{contradiction, settled, unexpected_letters},
};
use crate::{Client, Stack, broker, checks, client::new_key, memory::Memory};

/// How long a deposit may take to settle once a trouble is over.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
const BROKER_PATIENCE: Duration = Duration::from_secs(5);
/// In every poison message, to know them among the dead letters.
pub(super) const POISON: &str = "poison of the chaos";

/// What to run.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// What it is called.
    pub name: String,
    pub troubles: Vec<Trouble>,
    pub clients: usize,
    /// Whether the broker is a cluster of three.
    pub cluster: bool,
}

impl Chaos {
    /// The troubles of a seed.
    #[must_use]
    pub fn of_seed(seed: u64, length: Duration, clients: usize, cluster: bool) -> Self {
        let (name, troubles) = (format!("seed {seed}"), plan(seed, length, cluster));
        Self { name, troubles, clients, cluster }
    }
}

/// Says what happens, with the time since the beginning.
#[derive(Clone)]
struct Timeline(Instant);

impl Timeline {
    fn say(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{:>7.2} s  {text}", self.0.elapsed().as_secs_f64());
    }
}

/// Carries the troubles out on a stack of its own in `dir`, under load.
///
/// With `keep`, its data and logs stay if there is a finding.
pub async fn run(chaos: &Chaos, dir: &Path, keep: bool) -> Report {
    let nodes = if chaos.cluster { "3" } else { "1" };
    let stack = Stack::start_in(dir, &["--port", "0", "--faults", "--nats-nodes", nodes]).await;
    let timeline = Timeline(Instant::now());
    let Chaos { name, troubles, clients, .. } = chaos;
    timeline.say(&format!("{name}: {} troubles, {clients} clients", troubles.len()));
    let memory = Memory::start(&stack);
    let load = Load::start(&stack, *clients, 50).await;
    let runner = Runner {
        faults: FaultClient::of(&stack.file()).unwrap(),
        stack,
        load,
        timeline,
        begun: Instant::now(),
        going_on: Mutex::default(),
        recoveries: Mutex::new(Vec::new()),
    };
    let runner = Arc::new(runner);
    let mut tasks = JoinSet::new();
    for trouble in troubles.iter().cloned() {
        let runner = Arc::clone(&runner);
        tasks.spawn(async move { runner.carry_out(trouble).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let (mut report, stack) = Arc::into_inner(runner).unwrap().judge().await;
    report.memory = memory.finish().await;
    if keep && !report.findings.is_empty() {
        println!("the data and logs stay in {}", stack.keep().display());
    }
    report
}

/// How many troubles there are now, and were.
#[derive(Debug, Default, Clone, Copy)]
struct GoingOn {
    now: usize,
    begun: usize,
}

struct Runner {
    stack: Stack,
    faults: FaultClient,
    load: Load,
    timeline: Timeline,
    begun: Instant,
    going_on: Mutex<GoingOn>,
    recoveries: Mutex<Vec<Recovery>>,
}

impl Runner {
    async fn carry_out(&self, trouble: Trouble) {
        sleep_until(self.begun + trouble.at).await;
        let name = trouble.to_string();
        self.timeline.say(&name);
        {
            let mut going_on = self.going_on.lock().unwrap();
            going_on.now += 1;
            going_on.begun += 1;
        }
        if let Err(error) = self.make(&trouble).await {
            // Two troubles may meet: nothing is left to be killed.
            self.timeline.say(&format!("  {name}: not done: {error:#}"));
        }
        let at_end = {
            let mut going_on = self.going_on.lock().unwrap();
            going_on.now -= 1;
            *going_on
        };
        let over = Instant::now();
        let settled = timeout(RECOVERED_WITHIN, self.deposit_settles()).await;
        let took = over.elapsed();
        let alone = at_end.now == 0 && self.going_on.lock().unwrap().begun == at_end.begun;
        let others = if alone { "" } else { " (other troubles meanwhile)" };
        let seconds = took.as_secs_f64();
        let how = if settled.is_ok() { "a deposit settled after" } else { "none settled for" };
        self.timeline.say(&format!("  {name}: over; {how} {seconds:.2} s{others}"));
        self.recoveries.lock().unwrap().push(Recovery { trouble: name, took, alone });
    }

    /// Makes the trouble and, if it does not end by itself, its end.
    async fn make(&self, trouble: &Trouble) -> Result<()> {
        let lasts = trouble.lasts.unwrap_or_default();
        match &trouble.what {
            What::Fault { on, fault, undo } => {
                let done = self.faults.inject(on, *fault).await;
                sleep(lasts).await;
                if let Some(undo) = undo {
                    // What was killed meanwhile need not be thawed.
                    let _ = self.faults.inject(on, *undo).await;
                }
                done.map(drop)
            }
            What::NoConnections => {
                let url = self.stack.file().databases.report;
                let mut taken = Vec::new();
                while let Ok(Ok(connection)) =
                    timeout(BROKER_PATIENCE, PgConnection::connect(&url)).await
                {
                    taken.push(connection);
                }
                self.faults.inject("*/postgres", Fault::Cut).await?;
                sleep(lasts).await;
                drop(taken);
                Ok(())
            }
            What::Repeat(count) => {
                let jetstream = self.broker().await?;
                let recent = self.load.recent((*count).into());
                let commands = recent.iter().map(|it| (it.command_subject(), it.command()));
                publish(&jetstream, commands).await
            }
            What::Poison(count) => {
                let jetstream = self.broker().await?;
                let subjects =
                    ["transaction.deposit", "transaction.withdrawal", "transaction.result.deposit"];
                let messages = (0..*count).map(|at| {
                    let subject = subjects[usize::from(at) % subjects.len()];
                    (subject, format!("{{\"recordId\": {at}, \"{POISON}\": null"))
                });
                publish(&jetstream, messages).await
            }
            What::Forge(count) => {
                let jetstream = self.broker().await?;
                let recent = self.load.recent((*count).into());
                let results = recent.iter().map(|it| ("transaction.result.deposit", it.forged()));
                publish(&jetstream, results).await
            }
            What::DeleteStream(stream) => {
                let jetstream = self.broker().await?;
                timeout(BROKER_PATIENCE, jetstream.delete_stream(stream)).await??;
                Ok(())
            }
            What::Purge(stream) => {
                let jetstream = self.broker().await?;
                let purge =
                    async { Ok(jetstream.get_stream_no_info(stream).await?.purge().await?) };
                timeout(BROKER_PATIENCE, purge).await?.map(drop)
            }
            What::DeleteConsumer(stream, consumer) => {
                let jetstream = self.broker().await?;
                let delete = jetstream.delete_consumer_from_stream(consumer, stream);
                timeout(BROKER_PATIENCE, delete).await??;
                Ok(())
            }
            What::StepDown(stream) => {
                let jetstream = self.broker().await?;
                let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
                let client = jetstream.client();
                let asked = client.request(subject, "".into());
                timeout(BROKER_PATIENCE, asked).await??;
                Ok(())
            }
        }
    }

    async fn broker(&self) -> Result<jetstream::Context> {
        let connected = timeout(BROKER_PATIENCE, broker::try_connect(&self.stack)).await;
        connected.context("NATS is away")?
    }

    /// Returns once a deposit that is made now is settled.
    async fn deposit_settles(&self) {
        let file = self.stack.file();
        let client = Client::with_timeout(&file.api, &file.tokens.teller, Duration::from_secs(5));
        let (account, key) = (&self.load.accounts[0], new_key());
        loop {
            match client.try_movement("deposits", account, "1", &key, Some(2)).await {
                Ok(answer) if answer.status == 200 => return,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn judge(self) -> (Report, Stack) {
        for (on, fault) in [("*", Fault::Release), ("*", Fault::Thaw), ("*", Fault::Pass)] {
            let _ = self.faults.inject(on, fault).await;
        }
        let mut report =
            Report { recoveries: self.recoveries.into_inner().unwrap(), ..Report::default() };
        let calm = Instant::now();
        self.timeline.say("all troubles are over; the clients finish");
        let Told { accepted, answers, odd } = self.load.finish().await;
        report.findings.extend(odd.into_iter().map(|it| format!("an odd answer: {it}")));
        report.accepted = accepted.len();
        report.answers = answers;
        let records = match settled(&self.stack).await {
            Ok(records) => Some(records),
            Err(error) => {
                report.findings.push(format!("{error:#}"));
                None
            }
        };
        report.settled_after = calm.elapsed();
        let seconds = report.settled_after.as_secs_f64();
        self.timeline.say(&format!("no record is PENDING any more, {seconds:.1} s later"));
        if let Some(records) = records {
            let wrong = accepted.iter().filter_map(|it| contradiction(it, records.get(&it.record)));
            report.findings.extend(wrong);
            report.refused = records.values().filter(|it| it.status == "FAILED").count();
        }
        for Recovery { trouble, .. } in
            report.recoveries.iter().filter(|it| it.took >= RECOVERED_WITHIN)
        {
            report
                .findings
                .push(format!("after {trouble}: nothing settled for {RECOVERED_WITHIN:?}"));
        }
        match timeout(Duration::from_secs(60), unexpected_letters(&self.stack)).await {
            Ok(letters) => report.findings.extend(letters),
            Err(_) => report.findings.push("the dead letters can't be read".to_owned()),
        }
        // A cluster may still be electing who answers for a stream.
        let (mut code, mut verified) = checks::verify(&self.stack).await;
        while code == 2 && calm.elapsed() < SETTLED_WITHIN {
            (code, verified) = checks::verify(&self.stack).await;
        }
        if code != 0 {
            report.findings.push(format!("passbook verify: {verified:#}"));
        }
        self.timeline.say("passbook verify has run");
        (report, self.stack)
    }
}

impl Accepted {
    fn command_subject(&self) -> &'static str {
        if self.kind == "DEPOSIT" { "transaction.deposit" } else { "transaction.withdrawal" }
    }

    fn command(&self) -> String {
        json!({
            "recordId": self.record, "accountId": self.account, "userId": "teller",
            "type": self.kind, "amount": self.amount.to_string(), "currency": "KRW",
            "requestedAt": "2026-01-02T03:04:05Z", POISON: "no: a copy",
        })
        .to_string()
    }

    /// A result that the ledger never gave.
    fn forged(&self) -> String {
        json!({
            "recordId": self.record, "transactionId": 1, "accountId": self.account,
            "type": "DEPOSIT", "amount": (self.amount + 1).to_string(), "currency": "KRW",
            "status": "SUCCESS", "reason": null, "balanceAfter": "999999999",
            "accountSeq": 999_999, "processedAt": "2026-01-02T03:04:05Z", POISON: null,
        })
        .to_string()
    }
}

async fn publish(
    jetstream: &jetstream::Context,
    messages: impl Iterator<Item = (&str, String)>,
) -> Result<()> {
    let publish = messages.map(|(subject, payload)| async move {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", new_key().as_str());
        let sent = jetstream.publish_with_headers(subject.to_owned(), headers, payload.into());
        sent.await?.await.map_err(|error| anyhow!(error))
    });
    timeout(BROKER_PATIENCE, try_join_all(publish)).await??;
    Ok(())
}
