//! Metrics of the process: the recorder, and the descriptions of the metrics common
//! to all services.

use std::time::Duration;

use anyhow::Context;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::tasks::sleep_unless_stopped;

/// Buckets in seconds: from a fast statement to a client's longest wait.
const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Buckets in seconds for the time to settle: from a few milliseconds to the
/// length of an outage.
const SETTLE: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 900.0,
];
/// Buckets in seconds for reports and their steps: from a small statement to a report
/// that blocks the others.
const REPORT: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14400.0];
/// Buckets in messages: from one to the largest batch.
const BATCH: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0];

/// Aggregates new samples into the histograms every five seconds until `stop`.
/// Otherwise samples would accumulate in a process that is not scraped.
pub async fn upkeep(metrics: PrometheusHandle, stop: CancellationToken) {
    while sleep_unless_stopped(Duration::from_secs(5), &stop).await {
        metrics.run_upkeep();
    }
}

/// A number of items, for a counter.
#[must_use]
pub fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

/// A number of items, for a gauge or a histogram.
#[must_use]
#[expect(clippy::as_conversions, reason = "no lossless conversion exists; exact up to 2^53")]
pub const fn float(items: u64) -> f64 {
    items as f64
}

/// Describes the metrics common to all services.
pub(crate) fn describe() {
    describe_gauge!("passbook_build_info", "1, labelled with the running version.");
    describe_gauge!(
        "passbook_condition_up",
        "1 if a condition of /readyz is up. A required condition that is down makes the process not ready."
    );
    describe_histogram!(
        "passbook_http_request_seconds",
        Unit::Seconds,
        "From a request's head to its response, including the client's wait (Prefer)."
    );
    describe_histogram!(
        "passbook_worker_batch_messages",
        Unit::Count,
        "Messages in a fetched batch."
    );
    describe_counter!(
        "passbook_worker_messages_total",
        Unit::Count,
        "Deliveries by verdict: done, dead_letter or handed_back."
    );
    describe_counter!(
        "passbook_worker_parts_total",
        Unit::Count,
        "Commands or results in these deliveries. A message has one or several."
    );
    describe_counter!(
        "passbook_worker_fetch_errors_total",
        Unit::Count,
        "Fetches that failed, or that the broker did not answer."
    );
    describe_counter!(
        "passbook_redeliveries_total",
        Unit::Count,
        "Deliveries after the first one of a message."
    );
    describe_gauge!(
        "passbook_worker_kept_messages",
        Unit::Count,
        "Messages kept in hand because another transaction holds a row of theirs."
    );
    describe_counter!(
        "passbook_messages_refused_total",
        Unit::Count,
        "Messages that the broker refused for good: for their size, for a missing permission, or other."
    );
    describe_counter!(
        "passbook_dead_letters_total",
        Unit::Count,
        "Messages that were dead-lettered. A repetition after a crash counts again."
    );
    describe_gauge!(
        "passbook_database_connections",
        Unit::Count,
        "Open connections to the database, idle or used."
    );
    describe_gauge!(
        "passbook_database_connections_limit",
        Unit::Count,
        "Maximum connections of this process to the database."
    );
}

/// Starts recording metrics. Call once per process.
///
/// # Errors
/// If recording was started before.
pub fn start() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_batch_messages".to_owned()), &BATCH)
        })
        .and_then(|builder| {
            let name = "passbook_settle_seconds".to_owned();
            builder.set_buckets_for_metric(Matcher::Full(name), &SETTLE)
        })
        .and_then(|builder| {
            let name = "passbook_report_seconds".to_owned();
            builder.set_buckets_for_metric(Matcher::Full(name), &REPORT)
        })
        .and_then(|builder| {
            let name = "passbook_report_step_seconds".to_owned();
            builder.set_buckets_for_metric(Matcher::Full(name), &REPORT)
        })
        .context("metric buckets")?
        .install_recorder()
        .context("starting the metrics")
}
