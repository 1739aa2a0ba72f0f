//! Reports: long jobs, one at a time, with a clear state.
//!
//! The path of a report: [`http`] takes the request and commits its row, [`wake`] sends
//! a message. A [`worker`] claims the oldest due report and makes an attempt:
//! [`figures`] reads the figures, a renderer writes the files, the last commit makes
//! the report SUCCEEDED. [`redrive`] sends messages again, and ends the attempts of
//! crashed workers. [`alert`] tells an operator about a report that failed for good,
//! [`cleanup`] deletes files.
//!
//! A stop takes at most the drain delay, the grace period and a few seconds. A SIGKILL
//! must be sent later than that.

pub mod alert;
pub mod cleanup;
pub mod config;
pub mod figures;
pub mod http;
pub mod job;
pub mod queue;
pub mod redrive;
pub mod report;
pub mod signer;
pub mod store;
pub mod telemetry;
pub mod wake;
pub mod watch;
pub mod worker;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use artifacts::ArtifactStore;
use contract::{Topology, consumers};
use metrics_exporter_prometheus::PrometheusHandle;
use runtime::{
    health::Need,
    http::{api::Listeners, server},
    service::{Identity, Service},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use config::Config;

use crate::{
    alert::Alerts,
    cleanup::Cleanup,
    http::Api,
    redrive::Redrive,
    watch::Watch,
    worker::{Attempts, ExhaustedJobs, Reports},
};

/// The grace period after an error.
const GRACE_AFTER_ERROR: Duration = Duration::from_secs(2);

/// Runs the service until `stop`. Then its readiness probe fails, a running report is
/// handed over, the API serves for the drain delay, and the process ends.
///
/// # Errors
/// If a setting or a stream is unusable, or a task failed.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let parts = config.parts()?;
    let queue = config.report.queue.queue();
    let topology = Topology::leak(queue, config.service.nats.stream_storage);
    let identity = Identity {
        name: "report-service",
        // Without the broker, requests are still accepted. Their messages are sent later.
        broker: Need::Degraded,
        consumers: vec![queue.consumer, consumers::JOBS_MAX_DELIVERIES],
        streams: topology.report_streams().to_vec(),
        topology,
    };
    let mut service =
        Service::start(identity, &config.service, listeners.admin, metrics, &stop).await?;
    telemetry::describe();
    let grace = config.service.process.grace_period;
    let (pool, jetstream) = (service.pool.clone(), service.jetstream.clone());
    let storage = Arc::new(ArtifactStore::open(&config.storage).context("the storage of files")?);
    let tries = config.report.tries();
    let watch = Watch::default();
    let finished = service.finished.clone();

    service.keep_token_keys(&parts.verifier);
    service.keep_streams(&topology.report_streams());
    let exhausted = Arc::new(ExhaustedJobs { pool: pool.clone() });
    service.settle_exhausted(consumers::JOBS_MAX_DELIVERIES, &[queue.consumer], &exhausted)?;
    let redrive = Redrive {
        pool: pool.clone(),
        queue,
        messages: service.work_queue(queue.consumer, &exhausted)?,
        tries,
        lease: config.report.lease(),
    };
    service.tasks.spawn("redrive", redrive.run(finished.clone()));
    let alerts =
        Alerts { pool: pool.clone(), jetstream: jetstream.clone(), queue, webhook: parts.webhook };
    service.tasks.spawn("alerts", alerts.run(finished.clone()));
    let cleanup = Cleanup {
        pool: pool.clone(),
        storage: Arc::clone(&storage),
        scratch: config.report.scratch_dir(),
        every: config.report.report_cleanup_every,
    };
    service.tasks.spawn("clean-up", cleanup.run(finished.clone()));
    let watching = watch.clone().poll(pool.clone(), stop.clone());
    let ended = finished.clone();
    service.tasks.spawn("watch", async move {
        watching.await;
        // A task that ends before the service counts as failed.
        ended.cancelled().await;
    });
    let attempts = Attempts {
        pool: pool.clone(),
        figures: parts.figures,
        renderer: parts.renderer,
        storage: Arc::clone(&storage),
        signer: parts.signer.clone(),
        scratch: config.report.scratch_dir(),
        retention: config.report.report_retention,
        tries,
    };
    let reports = Arc::new(Reports {
        pool: pool.clone(),
        worker: config.report.worker_name(),
        lease: config.report.lease(),
        max_running: queue.max_ack_pending,
        attempts,
    });
    // The worker stops before the API: a report is handed over while other replicas run.
    let fetch_wait = config.report.queue.report_fetch_wait;
    let worker = service.job_worker(queue.consumer, Need::Degraded, fetch_wait, &reports, &stop)?;
    let mut worker = tokio::spawn(worker);

    let (waker, wakes) = wake::channel();
    let api = Api {
        pool,
        accounts: parts.accounts,
        ledger: parts.ledger,
        storage,
        signer: parts.signer,
        waker,
        watch,
        verifier: parts.verifier,
        longest_wait: config.api.longest_wait,
        limits: config.api.limits(stop.clone())?,
    };
    let (router, addresses) = (http::router(api), Some(&config.api.addresses));
    let (delay, draining) = (config.api.drain_delay, stop.clone());
    let serving = server::serve(listeners.api, addresses, router, draining, delay, grace);
    // The queue of messages ends with the API.
    let mut waking = tokio::spawn(wakes.run(jetstream, queue.subject));
    let served = tokio::select! {
        served = serving => served,
        early = service.tasks.watch(std::future::pending()) => early.map(|()| grace),
        early = &mut waking => Err(anyhow::anyhow!("the task of messages ended early: {early:?}")),
        failed = early_end(&mut worker, &stop) => Err(failed),
    };
    let deadline = Instant::now() + *served.as_ref().unwrap_or(&GRACE_AFTER_ERROR);
    if !worker.is_finished() && tokio::time::timeout_at(deadline, &mut worker).await.is_err() {
        tracing::warn!("the report was not handed over in time; its lease ends by itself");
        worker.abort();
    }
    if !waking.is_finished() && tokio::time::timeout_at(deadline, waking).await.is_err() {
        tracing::warn!("some messages were not sent; the redrive sends them");
    }
    let ended = service.end(deadline).await;
    served.and(ended)
}

/// Resolves if the worker ends without a stop.
async fn early_end(
    worker: &mut tokio::task::JoinHandle<anyhow::Result<()>>,
    stop: &CancellationToken,
) -> anyhow::Error {
    let ended = worker.await;
    if stop.is_cancelled() && matches!(ended, Ok(Ok(()))) {
        return std::future::pending().await;
    }
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("the worker ended early"),
        Ok(Err(error)) => error.context("the worker failed"),
        Err(error) => anyhow::anyhow!(error).context("the worker panicked"),
    }
}
