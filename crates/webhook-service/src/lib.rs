//! Webhooks by the standard-webhooks specification: delivers the event log to endpoints.
//!
//! The log is the queue. An endpoint has a cursor into it; a delivery has a row only while it has
//! failed and waits for a retry. [`fanout`] announces new events to the endpoints, [`delivery`]
//! claims those with work and sends, [`round`] decides what the answers mean, [`schedule`] when
//! to try again, [`probe`] which event a failing endpoint gets. [`connector`] and [`address`] keep
//! requests out of private networks.
//!
//! Deliveries are at least once. Several replicas may run: a lease with a fence makes one of them
//! the sender of an endpoint. The service writes nothing that moves money waits for.

pub mod address;
pub mod config;
pub mod connector;
pub mod delivery;
pub mod fanout;
pub mod gauges;
pub mod http;
pub mod probe;
pub mod reseal;
pub mod round;
pub mod schedule;
pub mod seal;
pub mod sender;
pub mod signature;
pub mod store;

use std::{sync::Arc, time::Duration};

use account_service::{events::EventLog, http::StoredKeys, lookup};
use metrics_exporter_prometheus::PrometheusHandle;
use runtime::{
    http::{api::Listeners, server},
    postgres::{self, limited},
    service::{Base, until},
    tasks::sleep_unless_stopped,
    telemetry::otlp::Export,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

pub use config::Config;

use crate::{delivery::Deliveries, fanout::Fanout, http::Api, sender::Sender};

/// The service's name in the database.
const NAME: &str = "webhook-service";
/// The grace period after an error.
const GRACE_AFTER_ERROR: Duration = Duration::from_secs(2);
/// Pause between two searches for old deliveries.
const CLEANUP_EVERY: Duration = Duration::from_secs(60);

/// Pause between two looks for times of a clock that was ahead.
const TIMES_EVERY: Duration = Duration::from_secs(20);

/// Runs the service until `stop`. Then its readiness probe fails, it serves for the drain delay,
/// finishes the requests in flight, and ends.
///
/// # Errors
/// If a setting is unusable, or a task failed.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let verifier = config.api.verifier()?;
    let sealing = config.webhooks.sealing_keys()?;
    let sender = Sender::new(config.webhooks.guard(), config.webhooks.webhook_timeout)?;
    let spans = Export::start(&config.traces, NAME)?;
    let base = Base::start(NAME, &config.database, listeners.admin, metrics, &stop)?;
    let Base { pool, health, mut tasks, finished } = base;
    verifier.expect_keys(&health);
    tasks.spawn("token keys", verifier.clone().keep_keys(health, finished.clone()));

    gauges::describe();
    let (log, announced) = (EventLog::new(pool.clone()), Arc::new(Notify::new()));
    let (all, announced_to) = (log.with_own_permit(), Arc::clone(&announced));
    let fanout = Fanout { pool: pool.clone(), log: all, announced: announced_to };
    tasks.spawn("fan-out", fanout.run(finished.clone()));
    let deliveries = Deliveries {
        pool: pool.clone(),
        log: log.clone(),
        sealing: Arc::clone(&sealing),
        sender,
        limits: config.webhooks.limits(),
        announced,
    };
    tasks.spawn("deliveries", deliveries.run(finished.clone()));
    tasks.spawn("gauges", gauges::run(pool.clone(), Arc::clone(&sealing), finished.clone()));
    let (keys, after) = (Arc::clone(&sealing), config.webhooks.webhook_reseal_after);
    tasks.spawn("sealing", reseal::run(pool.clone(), keys, after, finished.clone()));
    tasks.spawn("clean-up", clean_up(pool.clone(), finished.clone()));
    tasks.spawn("times", keep_times(pool.clone(), finished.clone()));

    let grace = config.process.grace_period;
    let (_, key_lookup, reader) = lookup::channel();
    let mut reading = tokio::spawn(reader.run(pool.clone()));
    let api = Api {
        pool: pool.clone(),
        log,
        sealing,
        guard: config.webhooks.guard(),
        allow_http: config.webhooks.webhook_allow_http,
        secret_overlap: config.webhooks.webhook_secret_overlap,
        verifier: verifier.with_api_keys(Box::new(StoredKeys(key_lookup))),
        limits: config.api.limits(stop.clone())?,
    };
    let (router, addresses) = (http::router(api), Some(&config.api.addresses));
    let serving =
        server::serve(listeners.api, addresses, router, stop, config.api.drain_delay, grace);
    let served = tokio::select! {
        served = serving => served,
        early = tasks.watch(std::future::pending()) => early.map(|()| grace),
        early = &mut reading => Err(anyhow::anyhow!("the task of API keys ended early: {early:?}")),
    };
    let deadline = Instant::now() + *served.as_ref().unwrap_or(&GRACE_AFTER_ERROR);
    let ended = tasks.finish(until(deadline)).await;
    postgres::close(&pool).await;
    spans.end(until(deadline)).await;
    served.and(ended)
}

/// Deletes deliveries that were given up long ago, and announcements to deleted endpoints.
async fn clean_up(pool: postgres::PgPool, stop: CancellationToken) {
    while sleep_unless_stopped(CLEANUP_EVERY, &stop).await {
        let deleted = async {
            limited(store::delete_old(&pool)).await??;
            limited(store::delete_late_of_deleted(&pool)).await?
        };
        if let Err(error) = deleted.await {
            tracing::warn!(%error, "deleting old rows of webhooks failed");
        }
    }
}

/// Shortens times that a clock wrote which was ahead.
async fn keep_times(pool: postgres::PgPool, stop: CancellationToken) {
    while sleep_unless_stopped(TIMES_EVERY, &stop).await {
        let capped = async { limited(store::cap_times(&pool, schedule::LONGEST)).await? };
        match capped.await {
            Ok(0) => {}
            Ok(endpoints) => tracing::warn!(
                endpoints,
                "times of webhook endpoints were too far in the future: the database's clock was \
                 ahead"
            ),
            Err(error) => tracing::warn!(%error, "looking for times in the future failed"),
        }
    }
}
