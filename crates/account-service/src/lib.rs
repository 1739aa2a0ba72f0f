//! Accounts and the requests to move their money.
//!
//! A deposit's way: [`http`] takes it, [`accept`] has it committed as a PENDING
//! [`record`], [`dispatch`] sends its command; [`results`] settles it when the
//! ledger's result is here, and [`settled`] tells whoever waits. [`redrive`]
//! stands behind all of it.

pub mod accept;
pub mod dispatch;
pub mod group;
pub mod http;
pub mod known;
pub mod record;
pub mod redrive;
pub mod results;
pub mod settled;
pub mod store;
pub mod telemetry;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use contract::{DEAD_LETTER, TRANSACTION, consumers};
use metrics_exporter_prometheus::PrometheusHandle;
use runtime::{
    config::{ServiceConfig, parse_duration},
    health::Need,
    service::{Identity, Service},
};
use tokio::{net::TcpListener, sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    http::{Api, Auth},
    redrive::Redrive,
    results::SettleRecords,
    settled::Settled,
};

/// The account-service: takes deposits and withdrawals over HTTP, writes each down as a PENDING
/// record, sends it as a command, and settles it with the ledger's result.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    /// Address of the public API.
    #[arg(long, env = "PASSBOOK_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Public key (Ed25519, PEM) of whoever signs the bearer tokens.
    #[arg(long, env = "PASSBOOK_JWT_PUBLIC_KEY")]
    pub jwt_public_key: String,
    /// The issuer (`iss`) that tokens must name.
    #[arg(long, env = "PASSBOOK_JWT_ISSUER", default_value = "passbook")]
    pub jwt_issuer: String,
    /// The audience (`aud`) that tokens must name.
    #[arg(long, env = "PASSBOOK_JWT_AUDIENCE", default_value = "passbook")]
    pub jwt_audience: String,
    /// The longest wait that a client gets with Prefer: wait=N.
    #[arg(long, env = "PASSBOOK_LONGEST_WAIT", value_parser = parse_duration, value_name = "DURATION", default_value = "30s")]
    pub longest_wait: Duration,
    /// After SIGTERM, how long to go on serving while /readyz already fails, so that whoever
    /// routes requests here can notice; the grace period begins after it.
    #[arg(long, env = "PASSBOOK_DRAIN_DELAY", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub drain_delay: Duration,
    /// Requests worked on at a time, waiting ones included; more are answered with 503 at once.
    #[arg(long, env = "PASSBOOK_MOST_REQUESTS", default_value_t = 20_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub most_requests: u32,
    /// Records that clients may wait for at a time; more are answered as PENDING at once.
    #[arg(long, env = "PASSBOOK_MOST_WAITING", default_value_t = 10_000)]
    pub most_waiting: usize,
    /// The age at which the command of a PENDING record is sent again; then after twice as long
    /// each time, up to ten minutes.
    #[arg(long, env = "PASSBOOK_REDRIVE_AFTER", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub redrive_after: Duration,
    /// What any service has.
    #[command(flatten)]
    pub service: ServiceConfig,
}

impl Config {
    /// Finds what can't be used, before a port is bound.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> anyhow::Result<()> {
        self.service.check()?;
        self.auth().map(drop)
    }

    fn auth(&self) -> anyhow::Result<Auth> {
        Auth::new(&self.jwt_public_key, &self.jwt_issuer, &self.jwt_audience)
    }
}

/// For what is in hand when the service ends by an error.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// Where the service listens.
#[derive(Debug)]
pub struct Listeners {
    /// The public API.
    pub api: TcpListener,
    /// The admin port.
    pub admin: TcpListener,
}

/// Runs the service until `stop`; then fails its readiness probe, goes on
/// serving for the drain delay, finishes what is in hand and ends.
///
/// # Errors
/// If something it stands on can't be used at all, or a task failed.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let auth = config.auth()?;
    let identity = Identity {
        name: "account-service",
        // Without the broker requests are still accepted: their commands are sent later.
        broker: Need::Degraded,
        consumers: &[consumers::ACCOUNT_RESULT, consumers::RESULTS_USED_UP],
    };
    let mut service =
        Service::start(identity, &config.service, listeners.admin, metrics, &stop).await?;
    telemetry::describe();
    let grace = config.service.process.grace_period;
    let (pool, client, jetstream) =
        (service.pool.clone(), service.client.clone(), service.jetstream.clone());
    let settled = Settled::new(client.clone(), config.most_waiting);
    let (dispatch, commands) = dispatch::channel();

    // All of it stops after the API: a request in hand may still need it.
    let finished = service.finished.clone();
    service.keep_streams(&[TRANSACTION, DEAD_LETTER]);
    service.work_off_used_up(consumers::RESULTS_USED_UP, &[])?;
    service.tasks.spawn("settled records", settled.clone().listen(finished.clone()));
    let look = settled::look(settled.clone(), pool.clone(), finished.clone());
    service.tasks.spawn("look for settled records", look);
    let redrive =
        Redrive::new(pool.clone(), client.clone(), jetstream.clone(), config.redrive_after);
    service.tasks.spawn("redrive", redrive.run(finished.clone()));
    let handler = Arc::new(SettleRecords { pool: pool.clone(), settled: settled.clone() });
    for worker in service.workers(consumers::ACCOUNT_RESULT, Need::Degraded, &handler)? {
        service.tasks.spawn(consumers::ACCOUNT_RESULT, worker.run(finished.clone()));
    }

    let (acceptance, writer) = accept::channel(pool.clone(), dispatch);
    let (known, lookup) = known::channel();
    let looking = lookup.run(pool.clone());
    let api = Api {
        pool,
        acceptance,
        settled,
        auth,
        known,
        longest_wait: config.longest_wait,
        permits: Semaphore::new(usize::try_from(config.most_requests)?),
        batches: http::turns(),
        draining: stop.clone(),
    };
    let serving =
        runtime::http::serve(listeners.api, http::router(api), stop, config.drain_delay, grace);
    // Each ends by itself when nobody brings it anything any more: the API, then the writer.
    let sending = commands.run(client, jetstream, config.redrive_after);
    let mut sending = tokio::spawn(async { tokio::join!(looking, writer.run(), sending) });
    let served = tokio::select! {
        served = serving => served,
        early = service.tasks.watch(std::future::pending()) => early.map(|()| grace),
        early = &mut sending => Err(anyhow::anyhow!("sending commands ended early: {early:?}")),
    };
    // One grace period for all of it, from the moment the listener is closed.
    let deadline = Instant::now() + *served.as_ref().unwrap_or(&LAST_MOMENTS);
    if !sending.is_finished() && tokio::time::timeout_at(deadline, sending).await.is_err() {
        tracing::warn!("some commands were not sent; the redrive of another replica will");
    }
    let ended = service.end(deadline).await;
    served.and(ended)
}
