//! Metrics of a scheduled run, sent to a Prometheus Pushgateway.
//!
//! The run ends before Prometheus could scrape it. The Pushgateway keeps the metrics until the next
//! run.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Args;
use client::{Client, Method, Request};
use metrics_exporter_prometheus::PrometheusBuilder;

const TIMEOUT: Duration = Duration::from_secs(10);
const FORM: &str = "the Pushgateway's URL must have the form http://host:9091";

/// Where to send metrics.
#[derive(Debug, Clone, Args)]
pub(crate) struct PushgatewayArguments {
    /// URL of a Prometheus Pushgateway to send the findings to as metrics, such as
    /// http://pushgateway:9091.
    #[arg(long, value_name = "URL", env = "PASSBOOK_PUSHGATEWAY_URL", hide_env_values = true)]
    pushgateway_url: Option<String>,
}

/// The Pushgateway, if a URL is given.
pub(crate) struct Pushgateway(Option<Client>);

impl PushgatewayArguments {
    /// Checks the URL. Call this before the work, which may take hours. A blank URL counts as none.
    ///
    /// # Errors
    /// When the URL is malformed. The error does not contain the URL, because the URL may contain a
    /// password.
    pub(crate) fn pushgateway(&self) -> Result<Pushgateway> {
        let url = self.pushgateway_url.as_deref().map(str::trim).filter(|url| !url.is_empty());
        let Some(url) = url else { return Ok(Pushgateway(None)) };
        ensure!(url.starts_with("http://"), FORM);
        let client = Client::builder(url, "").timeout(TIMEOUT).build();
        Ok(Pushgateway(Some(client.ok().context(FORM)?)))
    }
}

impl Pushgateway {
    /// Whether a URL is given.
    pub(crate) const fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Replaces the metrics set by `record` in a group: a job and its labels, as
    /// `JOB/LABEL/VALUE`. The group's other metrics stay as an earlier run left them, such as the
    /// time of the last complete run. Does nothing without a Pushgateway.
    ///
    /// # Errors
    /// When the Pushgateway can't be reached or rejects the metrics.
    pub(crate) async fn replace(&self, group: &str, record: impl FnOnce()) -> Result<()> {
        let Some(client) = &self.0 else { return Ok(()) };
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        metrics::with_local_recorder(&recorder, record);
        let mut request = Request::new(Method::POST, format!("/metrics/job/{group}"));
        request.body = metrics.render().into();
        let answer = client.send(&request).await.context("sending metrics to the Pushgateway")?;
        let (status, text) = (answer.status, String::from_utf8_lossy(&answer.body));
        ensure!(status.is_success(), "the Pushgateway answers {status}: {text}");
        Ok(())
    }
}

/// The current time in Prometheus's form: seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64()
}

/// A count in Prometheus's form.
#[expect(clippy::as_conversions, reason = "there is no other way; exact up to 2^53")]
pub(crate) const fn count(count: u64) -> f64 {
    count as f64
}
