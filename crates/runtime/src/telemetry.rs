//! Logs and metrics of the process.

use std::{io::IsTerminal, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, ProcessConfig};

/// Seconds, from a fast statement to a client's longest wait.
const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
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
        .context("metric buckets")?
        .install_recorder()
        .context("starting the metrics")
}
