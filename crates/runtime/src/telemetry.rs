//! Logs and metrics of the process.

use std::{io::IsTerminal, time::Duration};

use anyhow::Context;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    backlog,
    config::{LogFormat, ProcessConfig},
};

/// Seconds, from a fast statement to a client's longest wait.
const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Seconds from a request's acceptance to its end: a few milliseconds, or as
/// long as an outage.
const SETTLE: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 900.0,
];
/// Messages, from one to the largest batch.
const BATCH: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0];

/// Folds new samples into the histograms every few seconds until `stop`:
/// without it they would pile up in a process that nobody scrapes.
///
/// # Errors
/// None; the type is that of an owned task.
pub async fn upkeep(metrics: PrometheusHandle, stop: CancellationToken) -> anyhow::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(5))).await.is_some() {
        metrics.run_upkeep();
    }
    Ok(())
}

/// Says what the metrics mean that every service has.
pub(crate) fn describe() {
    describe_gauge!("passbook_build_info", "1, for the version that runs.");
    describe_gauge!(
        "passbook_condition_up",
        "Whether a condition of /readyz holds. One that is required and does not takes the process out of service."
    );
    describe_histogram!(
        "passbook_worker_batch_messages",
        Unit::Count,
        "Messages that a fetch brought, if it brought any."
    );
    describe_counter!(
        "passbook_worker_messages_total",
        Unit::Count,
        "Deliveries, by what became of them: done, dead_letter or handed_back."
    );
    describe_counter!(
        "passbook_worker_fetch_errors_total",
        Unit::Count,
        "Fetches that failed or were not answered."
    );
    describe_counter!(
        "passbook_redeliveries_total",
        Unit::Count,
        "Deliveries that were not the first of their message."
    );
    describe_counter!(
        "passbook_dead_letters_total",
        Unit::Count,
        "Messages made dead letters. One that is made again after a crash counts again."
    );
    describe_gauge!(
        "passbook_database_connections",
        Unit::Count,
        "Open connections to the database, by whether somebody uses them."
    );
    describe_gauge!(
        "passbook_database_connections_limit",
        Unit::Count,
        "Connections to the database that this process may open."
    );
    backlog::describe();
}

/// Starts logging to stderr and recording metrics; call once.
///
/// # Errors
/// If the filter can't be read, or logging was started before.
pub fn start(config: &ProcessConfig) -> anyhow::Result<PrometheusHandle> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("PASSBOOK_LOG: {:?} is no filter", config.log))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match config.log_format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Human => registry.with(lines).try_init(),
    }
    .context("starting the log")?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked")));
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|it| {
            it.set_buckets_for_metric(Matcher::Suffix("_batch_messages".to_owned()), &BATCH)
        })
        .and_then(|it| {
            let name = "passbook_settle_seconds".to_owned();
            it.set_buckets_for_metric(Matcher::Full(name), &SETTLE)
        })
        .context("metric buckets")?
        .install_recorder()
        .context("starting the metrics")
}
