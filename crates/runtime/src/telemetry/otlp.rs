//! Spans on their way to a collector, by OTLP over HTTP.
//!
//! A span goes into a bounded queue, and from there out in batches, beside the
//! work. What finds no room, and what the collector does not take, is dropped
//! and counted: no request and no message ever waits for a collector.

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
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use clap::Args;

/// The export of traces. The variables are OpenTelemetry's. Its
/// OTEL_EXPORTER_OTLP_HEADERS is supported, too: credentials for the collector.
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

/// Spans that wait; some five megabytes.
const CAPACITY: usize = 4096;
/// Spans in a batch at most.
const MOST: usize = 512;
/// How long a batch that is not full waits for more.
const GATHERING: Duration = Duration::from_millis(100);
/// The longest a collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that the end of the process waits for one.
pub(crate) const LAST_BATCHES: Duration = Duration::from_secs(3);
/// Between two log lines about spans that were dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// What everybody sees of an exporter.
struct Queue {
    spans: mpsc::Sender<SpanData>,
    /// A trace that begins here is sampled if half of its id is below it.
    below: u64,
    /// Spans that found no room and were not told of yet.
    left_out: AtomicU64,
}

/// Whether spans are collected at all.
pub(crate) fn is_on() -> bool {
    QUEUE.get().is_some()
}

/// Whether a trace that begins here is sampled. Every process that has the same
/// ratio says the same of it.
pub(crate) fn samples(trace: TraceId) -> bool {
    let [.., a, b, c, d, e, f, g, h] = trace.to_bytes();
    QUEUE.get().is_some_and(|it| u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < it.below)
}

/// Takes a span to be exported, or drops it.
pub(crate) fn take(span: SpanData) {
    let Some(queue) = QUEUE.get() else { return };
    if queue.spans.try_send(span).is_err() {
        dropped("queue_full", 1);
        queue.left_out.fetch_add(1, Ordering::Relaxed);
    }
}

fn dropped(reason: &'static str, spans: u64) {
    counter!("passbook_spans_dropped_total", "reason" => reason).increment(spans);
}

/// Where to, if anywhere.
///
/// # Errors
/// If it is no address.
pub(crate) fn endpoint(config: &TracesConfig) -> anyhow::Result<Option<Uri>> {
    const WHAT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT must be an address like http://collector:4318";
    let text = config.otlp_endpoint.as_deref().unwrap_or_default().trim_end_matches('/');
    if text.is_empty() {
        return Ok(None);
    }
    let address: Uri = format!("{text}/v1/traces").parse().context(WHAT)?;
    ensure!(matches!(address.scheme_str(), Some("http" | "https")), WHAT);
    // It is logged, and shown by --help; the client would not send them anyway.
    ensure!(
        address.authority().is_none_or(|it| !it.as_str().contains('@')),
        "OTEL_EXPORTER_OTLP_ENDPOINT has a user in it: put credentials into OTEL_EXPORTER_OTLP_HEADERS"
    );
    Ok(Some(address))
}

/// Sends spans to a collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    /// Spans that the collector did not take and that were not told of yet.
    failed: u64,
    told: Option<Instant>,
}

impl Exporter {
    /// From now on spans are recorded, if there is somewhere to send them to.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub(crate) fn start(
        config: &TracesConfig,
        service: &'static str,
    ) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = endpoint(config)? else { return Ok(None) };
        let builder = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .with_endpoint(endpoint.to_string());
        let builder = if endpoint.scheme_str() == Some("https") {
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_native_roots()
                .context(
                    "looking for this machine's certificates, for OTEL_EXPORTER_OTLP_ENDPOINT",
                )?
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
        let below = threshold(config.traces_sampler_arg);
        let left_out = AtomicU64::new(0);
        ensure!(
            QUEUE.set(Queue { spans: sender, below, left_out }).is_ok(),
            "spans are exported already"
        );
        describe_counter!(
            "passbook_spans_exported_total",
            Unit::Count,
            "Spans sent to a collector."
        );
        describe_counter!(
            "passbook_spans_dropped_total",
            Unit::Count,
            "Spans that found no room, or that the collector did not take."
        );
        counter!("passbook_spans_exported_total").increment(0);
        dropped("queue_full", 0);
        dropped("not_taken", 0);
        tracing::info!(%endpoint, ratio = config.traces_sampler_arg, "spans are exported");
        Ok(Some(Self { spans, exporter, failed: 0, told: None }))
    }

    /// Exports until `stop`, and then what is in the queue.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MOST);
        loop {
            let received = stop.run_until_cancelled(self.spans.recv_many(&mut batch, MOST)).await;
            if received.is_some_and(|received| received < MOST) {
                let _ = stop.run_until_cancelled(tokio::time::sleep(GATHERING)).await;
            }
            while batch.len() < MOST
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.export(std::mem::replace(&mut batch, Vec::with_capacity(MOST))).await;
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let outcome = self.exporter.export(batch).await;
        match &outcome {
            Ok(()) => counter!("passbook_spans_exported_total").increment(spans),
            Err(_) => {
                dropped("not_taken", spans);
                self.failed += spans;
            }
        }
        let left_out = || QUEUE.get().map_or(0, |it| it.left_out.load(Ordering::Relaxed));
        let quiet = self.told.is_some_and(|at| at.elapsed() < TELL_EVERY);
        if quiet || self.failed == 0 && left_out() == 0 {
            return;
        }
        let left_out = QUEUE.get().map_or(0, |it| it.left_out.swap(0, Ordering::Relaxed));
        let error = outcome.err().map(|error| error.to_string());
        tracing::warn!(not_taken = self.failed, no_room = left_out, error, "spans were dropped");
        (self.failed, self.told) = (0, Some(Instant::now()));
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 2^63: there is no other way"
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
    fn an_address_is_completed_or_refused() {
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
    fn a_ratio_is_of_all_ids() {
        assert_eq!(threshold(0.0), 0);
        assert_eq!(threshold(0.5), 1 << 62);
        assert_eq!(threshold(1.0), 1 << 63);
    }
}
