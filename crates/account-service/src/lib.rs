//! Accounts and the requests to move their money.
//!
//! The path of a deposit: [`http`] takes the request, [`accept`] commits it as a
//! PENDING [`record`], [`dispatch`] sends its command. When the ledger's result
//! arrives, [`worker`] settles the record, and [`waiters`] notifies the waiting
//! client. [`redrive`] sends commands again after a crash or an outage. [`events`] is the log of
//! what happened, for consumers.
//!
//! A stop takes at most the drain delay, the grace period and a few seconds. A
//! SIGKILL must be sent later than that.

pub mod accept;
pub mod batcher;
pub mod dispatch;
pub mod events;
pub mod http;
pub mod labels;
pub mod ledger_reads;
pub mod lookup;
pub mod places;
pub mod record;
pub mod redrive;
pub mod store;
pub mod telemetry;
pub mod waiters;
pub mod worker;

use std::{sync::Arc, time::Duration};

use clap::Parser;
use contract::{DEAD_LETTER, MOVEMENT_STREAMS, ReportQueue, TRANSACTION, Topology, consumers};
use metrics_exporter_prometheus::PrometheusHandle;
use runtime::{
    config::ServiceConfig,
    health::Need,
    http::{
        api::{ApiConfig, Listeners},
        request_layer::RequestLimits,
        server,
    },
    service::{Identity, Service},
    setting::{Secret, parse_duration},
    worker::LockedKeys,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    events::EventLog,
    http::{Api, EventTail, MAX_BATCH_ITEMS, StreamSlots},
    ledger_reads::LedgerReads,
    redrive::Redrive,
    waiters::Waiters,
    worker::SettleRecords,
};

/// The account-service: takes deposits and withdrawals over HTTP, stores each as a PENDING
/// record, sends its command, and settles it with the ledger's result.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub api: ApiConfig,
    /// Maximum records awaited by clients. Further requests are answered without a wait.
    #[arg(long, env = "PASSBOOK_MOST_WAITING", default_value_t = 10_000)]
    pub most_waiting: usize,
    /// Maximum streams of events. Further ones get 503. A caller with `accounts:any` may have a
    /// quarter of them, a customer 10.
    #[arg(long, env = "PASSBOOK_MOST_EVENT_STREAMS", default_value_t = 2000)]
    pub most_event_streams: usize,
    /// Maximum movements a second in batches of a customer, by this replica: ten times as many at
    /// once, and a whole batch in any case. 0: no limit. By default ten times
    /// PASSBOOK_CUSTOMER_RATE_LIMIT.
    #[arg(long, env = "PASSBOOK_CUSTOMER_BATCH_RATE_LIMIT", value_name = "A SECOND",
          value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub customer_batch_rate_limit: Option<u32>,
    /// The same for each teller and admin. By default ten times PASSBOOK_RATE_LIMIT.
    #[arg(long, env = "PASSBOOK_BATCH_RATE_LIMIT", value_name = "A SECOND",
          value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub batch_rate_limit: Option<u32>,
    /// The age at which a PENDING record is redriven: its command is sent again. The interval to
    /// each further redrive is twice as long, up to ten minutes, with a jitter of 25 %.
    #[arg(long, env = "PASSBOOK_REDRIVE_AFTER", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub redrive_after: Duration,
    /// URL of the transaction database, with the role ledger_reader. It may be a replica. Requests
    /// with `consistency=ledger` and for past balances read it; no other request needs it.
    /// Without it, these requests are answered with 501. It contains a password: set the variable,
    /// not the flag.
    #[arg(long, env = "PASSBOOK_LEDGER_URL", hide_env_values = true)]
    pub ledger_url: Option<Secret>,
    #[command(flatten)]
    pub service: ServiceConfig,
}

impl Config {
    /// Rejects invalid settings before a port is bound.
    ///
    /// # Errors
    /// The first invalid setting, by name.
    pub fn check(&self) -> anyhow::Result<()> {
        self.service.check()?;
        self.ledger()?;
        self.api.verifier().map(drop)
    }

    /// The limits of a service with a public API, and those of batches.
    fn limits(&self, stop: CancellationToken) -> anyhow::Result<RequestLimits> {
        let mut limits = self.api.limits(stop)?;
        let tenfold = |requests: u32| requests.saturating_mul(10);
        let customers = self.customer_batch_rate_limit;
        let customers = customers.unwrap_or_else(|| tenfold(self.api.customer_rate_limit));
        let others = self.batch_rate_limit.unwrap_or_else(|| tenfold(self.api.rate_limit));
        limits.rates = limits.rates.with_batches(customers, others, MAX_BATCH_ITEMS.into());
        Ok(limits)
    }

    fn ledger(&self) -> anyhow::Result<Option<LedgerReads>> {
        // A variable without a value, as a deployment's template may set it.
        let url = self.ledger_url.as_ref().filter(|url| !url.expose().is_empty());
        url.map(LedgerReads::new).transpose()
    }
}

/// The grace period after an error.
const GRACE_AFTER_ERROR: Duration = Duration::from_secs(2);

/// Runs the service until `stop`. Then its readiness probe fails, it serves for
/// the drain delay, finishes requests and messages in process, and ends.
///
/// # Errors
/// If a setting or a stream is unusable, or a task failed.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let verifier = config.api.verifier()?;
    let ledger = config.ledger()?;
    let identity = Identity {
        name: "account-service",
        // Without the broker, requests are still accepted. Their commands are sent later.
        broker: Need::Degraded,
        consumers: vec![consumers::ACCOUNT_RESULT, consumers::RESULTS_MAX_DELIVERIES],
        streams: MOVEMENT_STREAMS.to_vec(),
        topology: Topology::leak(ReportQueue::DEFAULT, config.service.nats.stream_storage),
    };
    let mut service =
        Service::start(identity, &config.service, listeners.admin, metrics, &stop).await?;
    telemetry::describe();
    let grace = config.service.process.grace_period;
    let (pool, client, jetstream) =
        (service.pool.clone(), service.client.clone(), service.jetstream.clone());
    let message_parts = config.service.worker.message_parts;
    let waiters = Waiters::new(client.clone(), config.most_waiting);
    let (dispatch, publisher) = dispatch::channel(message_parts);

    // These tasks end after the API, because requests in process need them.
    let finished = service.finished.clone();
    service.keep_token_keys(&verifier);
    service.keep_streams(&[TRANSACTION, DEAD_LETTER]);
    service.dead_letter_exhausted(consumers::RESULTS_MAX_DELIVERIES, &[])?;
    service.tasks.spawn_fallible("notifications", waiters.clone().listen(finished.clone()));
    service.tasks.spawn("poll", waiters.clone().poll(pool.clone(), finished.clone()));
    let (broker, after) = ((client.clone(), jetstream.clone()), config.redrive_after);
    let redrive = Redrive::new(pool.clone(), broker, after, message_parts);
    service.tasks.spawn("redrive", redrive.run(finished.clone()));
    let (locked, waiting) = (LockedKeys::new(), waiters.clone());
    let handler = Arc::new(SettleRecords { pool: pool.clone(), waiters: waiting, locked });
    let workers =
        service.workers(consumers::ACCOUNT_RESULT, Need::Degraded, &handler, &finished)?;
    for worker in workers {
        service.tasks.spawn_fallible(consumers::ACCOUNT_RESULT, worker);
    }

    let (acceptor, writer) = accept::channel(pool.clone(), dispatch);
    let (lookup, key_lookup, reader) = lookup::channel();
    let reading = reader.run(pool.clone());
    let events = EventLog::new(pool.clone());
    let event_tail = EventTail::new(&events);
    service.tasks.spawn("event tail", event_tail.clone().run(finished.clone()));
    let api = Api {
        events,
        event_tail,
        stream_slots: StreamSlots::new(config.most_event_streams),
        pool,
        acceptor,
        lookup,
        ledger,
        waiters,
        verifier: verifier.with_api_keys(Box::new(http::StoredKeys(key_lookup))),
        longest_wait: config.api.longest_wait,
        limits: config.limits(stop.clone())?,
        batch_permits: Api::batch_permits(),
        batch_waits: Api::batch_waits(),
        batch_bodies: Api::batch_bodies(),
        customer_batches: Api::customer_batches(),
    };
    let (router, addresses) = (http::router(api), Some(&config.api.addresses));
    let serving =
        server::serve(listeners.api, addresses, router, stop, config.api.drain_delay, grace);
    // The reader and the writer end with the API, the publisher ends with the writer.
    let publishing = publisher.run(client, jetstream, config.redrive_after);
    let mut background = tokio::spawn(async { tokio::join!(reading, writer.run(), publishing) });
    let served = tokio::select! {
        served = serving => served,
        early = service.tasks.watch(std::future::pending()) => early.map(|()| grace),
        early = &mut background => Err(anyhow::anyhow!("a task of the API ended early: {early:?}")),
    };
    // Requests, commands and tasks share one grace period, which starts when the listener closes.
    let deadline = Instant::now() + *served.as_ref().unwrap_or(&GRACE_AFTER_ERROR);
    if !background.is_finished() && tokio::time::timeout_at(deadline, background).await.is_err() {
        tracing::warn!("some commands were not sent; another replica redrives them");
    }
    let ended = service.end(deadline).await;
    served.and(ended)
}
