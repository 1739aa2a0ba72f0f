//! Exports spans to a collector, by OTLP over HTTP.
//!
//! Spans enter a bounded queue, and a background task exports them in batches. A
//! span is dropped and counted if the queue is full or its export fails. No request
//! and no message ever waits for the collector.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use axum::http::Uri;
use metrics::{Unit, counter, describe_counter};
use opentelemetry::{KeyValue, trace::TraceId};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use clap::Args;

use super::metrics::count;
use crate::tasks::sleep_unless_stopped;

/// The export of traces, with the environment variables of OpenTelemetry. Credentials
/// for the collector are read from OTEL_EXPORTER_OTLP_HEADERS.
#[derive(Debug, Clone, Args)]
pub struct TracesConfig {
    /// OTLP/HTTP endpoint of the collector, such as http://collector:4318. Default: no traces.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Ratio of sampled traces, 0 to 1, among traces that start here. Other traces follow the
    /// decision of their parent.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_parser = parse_ratio, value_name = "RATIO", default_value_t = 0.01)]
    pub traces_sampler_arg: f64,
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// Maximum queued spans, about 5 MB.
const CAPACITY: usize = 4096;
/// Maximum spans in a batch.
const MAX_BATCH: usize = 512;
/// How long a batch accumulates spans.
const BATCH_DELAY: Duration = Duration::from_millis(100);
/// Time limit for exporting a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for the last batches at the end of the process.
const LAST_BATCHES: Duration = Duration::from_secs(3);
/// The interval between log lines about dropped spans.
const LOG_EVERY: Duration = Duration::from_secs(60);

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The sending side of the process's exporter.
struct Queue {
    spans: mpsc::Sender<SpanData>,
    /// A trace that starts here is sampled if the lower half of its id, without the
    /// lowest bit, is below this.
    threshold: u64,
    /// Spans dropped because the queue was full, not logged yet.
    not_queued: AtomicU64,
}

/// Whether spans are exported.
#[must_use]
pub fn is_on() -> bool {
    QUEUE.get().is_some()
}

/// Whether a trace that starts here is sampled. Processes with the same ratio make
/// the same decision.
pub(crate) fn samples(trace: TraceId) -> bool {
    let [.., a, b, c, d, e, f, g, h] = trace.to_bytes();
    let lower_half = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    QUEUE.get().is_some_and(|queue| lower_half >> 1 < queue.threshold)
}

/// Queues a span for the export, or drops it.
pub(crate) fn export(span: SpanData) {
    let Some(queue) = QUEUE.get() else { return };
    if queue.spans.try_send(span).is_err() {
        dropped("queue_full", 1);
        queue.not_queued.fetch_add(1, Ordering::Relaxed);
    }
}

fn dropped(reason: &'static str, spans: u64) {
    counter!("passbook_spans_dropped_total", "reason" => reason).increment(spans);
}

/// The collector's URL for traces, if one is configured.
///
/// # Errors
/// If it is malformed, or contains a user.
pub fn endpoint(config: &TracesConfig) -> anyhow::Result<Option<Uri>> {
    const FORM: &str = "OTEL_EXPORTER_OTLP_ENDPOINT must be an address like http://collector:4318";
    let text = config.otlp_endpoint.as_deref().unwrap_or_default().trim_end_matches('/');
    if text.is_empty() {
        return Ok(None);
    }
    let address: Uri = format!("{text}/v1/traces").parse().context(FORM)?;
    ensure!(matches!(address.scheme_str(), Some("http" | "https")), FORM);
    // The endpoint is logged and shown by --help, and the client does not send its credentials.
    ensure!(
        address.authority().is_none_or(|authority| !authority.as_str().contains('@')),
        "OTEL_EXPORTER_OTLP_ENDPOINT contains a user: put credentials into OTEL_EXPORTER_OTLP_HEADERS"
    );
    Ok(Some(address))
}

/// The export of the process's spans. It ends after everything that makes spans.
#[derive(Debug)]
pub struct Export {
    task: Option<JoinHandle<()>>,
    ended: CancellationToken,
}

impl Export {
    /// Starts recording and exporting spans, if a collector is configured.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn start(config: &TracesConfig, service: &'static str) -> anyhow::Result<Self> {
        let ended = CancellationToken::new();
        let exporter = Exporter::start(config, service)?;
        let task = exporter.map(|exporter| tokio::spawn(exporter.run(ended.clone())));
        Ok(Self { task, ended })
    }

    /// Exports what is queued, within this time and three seconds at most.
    pub async fn end(self, within: Duration) {
        let Some(task) = self.task else { return };
        self.ended.cancel();
        if !matches!(tokio::time::timeout(within.min(LAST_BATCHES), task).await, Ok(Ok(()))) {
            tracing::warn!("the last spans were not exported in time");
        }
    }
}

/// Sends queued spans to a collector.
#[derive(Debug)]
struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    /// Spans of failed exports, not logged yet.
    rejected: u64,
    last_log: Option<Instant>,
}

impl Exporter {
    /// Starts recording spans, if a collector is configured.
    ///
    /// # Errors
    /// If the configuration is invalid.
    fn start(config: &TracesConfig, service: &'static str) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = endpoint(config)? else { return Ok(None) };
        let builder = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .with_endpoint(endpoint.to_string());
        let builder = if endpoint.scheme_str() == Some("https") {
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_native_roots()
                .context("loading this machine's CAs for OTEL_EXPORTER_OTLP_ENDPOINT")?
                .https_only()
                .enable_http1()
                .build();
            builder.with_http_client(HyperClient::new(connector, TIMEOUT, None))
        } else {
            builder.with_http_client(HyperClient::with_default_connector(TIMEOUT, None))
        };
        let mut exporter = builder.build().context("OTEL_EXPORTER_OTLP_…")?;
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.namespace", "passbook"),
            KeyValue::new("service.name", service),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
        ]);
        exporter.set_resource(&resource.build());
        let (sender, spans) = mpsc::channel(CAPACITY);
        let threshold = threshold(config.traces_sampler_arg);
        let not_queued = AtomicU64::new(0);
        ensure!(
            QUEUE.set(Queue { spans: sender, threshold, not_queued }).is_ok(),
            "this process has a span exporter already"
        );
        describe_counter!(
            "passbook_spans_exported_total",
            Unit::Count,
            "Spans sent to a collector."
        );
        describe_counter!(
            "passbook_spans_dropped_total",
            Unit::Count,
            "Spans dropped: the queue was full, or their export failed."
        );
        counter!("passbook_spans_exported_total").increment(0);
        dropped("queue_full", 0);
        dropped("not_taken", 0);
        tracing::info!(%endpoint, ratio = config.traces_sampler_arg, "spans are exported");
        Ok(Some(Self { spans, exporter, rejected: 0, last_log: None }))
    }

    /// Exports until `stop`, then empties the queue.
    async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            let received =
                stop.run_until_cancelled(self.spans.recv_many(&mut batch, MAX_BATCH)).await;
            if received.is_some_and(|received| received < MAX_BATCH) {
                sleep_unless_stopped(BATCH_DELAY, &stop).await;
            }
            while batch.len() < MAX_BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.export(std::mem::replace(&mut batch, Vec::with_capacity(MAX_BATCH))).await;
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = count(batch.len());
        let outcome = self.exporter.export(batch).await;
        match &outcome {
            Ok(()) => counter!("passbook_spans_exported_total").increment(spans),
            Err(_) => {
                dropped("not_taken", spans);
                self.rejected += spans;
            }
        }
        let Some(queue) = QUEUE.get() else { return };
        let logged_recently = self.last_log.is_some_and(|at| at.elapsed() < LOG_EVERY);
        if logged_recently || self.rejected == 0 && queue.not_queued.load(Ordering::Relaxed) == 0 {
            return;
        }
        let not_queued = queue.not_queued.swap(0, Ordering::Relaxed);
        let error = outcome.err().map(|error| error.to_string());
        tracing::warn!(rejected = self.rejected, not_queued, error, "spans were dropped");
        (self.rejected, self.last_log) = (0, Some(Instant::now()));
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 2^63; no lossless conversion exists"
)]
fn threshold(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * 9_223_372_036_854_775_808.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_between_zero_and_one() {
        assert_eq!(parse_ratio("0.05"), Ok(0.05));
        for text in ["", "-0.1", "1.1", "5%", "NaN"] {
            assert!(parse_ratio(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_endpoint_is_completed_or_rejected() {
        let endpoint = |text: &str| {
            let otlp_endpoint = Some(text.to_owned());
            endpoint(&TracesConfig { otlp_endpoint, traces_sampler_arg: 1.0 })
        };
        for base in ["http://collector:4318", "http://collector:4318/"] {
            let complete = endpoint(base).unwrap().unwrap();
            assert_eq!(complete.to_string(), "http://collector:4318/v1/traces");
        }
        assert_eq!(endpoint("").unwrap(), None);
        for bad in [
            "collector:4318",
            "collector",
            "grpc://collector:4317",
            "http://",
            "http://a:b@collector",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ratio_becomes_a_threshold_of_ids() {
        assert_eq!(threshold(0.0), 0);
        assert_eq!(threshold(0.5), 1 << 62);
        assert_eq!(threshold(1.0), 1 << 63);
    }
}
