//! What a scheduled look found, as metrics. It is over before anybody could
//! scrape it, so it hands them to a Prometheus Pushgateway, which keeps them
//! until the next look.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Args;
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::Url;

/// How long the gateway may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Where to hand metrics to, if anywhere.
#[derive(Debug, Clone, Args)]
pub(crate) struct Push {
    /// Address of a Prometheus Pushgateway, such as http://pushgateway:9091, that is told what was
    /// found.
    #[arg(long, value_name = "URL", env = "PASSBOOK_PUSHGATEWAY_URL")]
    pushgateway_url: Option<Url>,
}

impl Push {
    /// Replaces the metrics of this job by those that `set` sets.
    ///
    /// # Errors
    /// When the gateway does not take them.
    pub(crate) async fn job(&self, job: &str, set: impl FnOnce()) -> Result<()> {
        let Some(gateway) = &self.pushgateway_url else { return Ok(()) };
        let recorder = PrometheusBuilder::new().build_recorder();
        let text = recorder.handle();
        metrics::with_local_recorder(&recorder, set);
        let mut url = gateway.clone();
        let path = format!("{}/metrics/job/{job}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let client = reqwest::Client::builder().timeout(ANSWER).build()?;
        let answer = client.put(url).body(text.render()).send().await;
        let answer = answer.context("telling the Pushgateway")?;
        let status = answer.status();
        ensure!(status.is_success(), "the Pushgateway answers {status}: {}", answer.text().await?);
        Ok(())
    }
}

/// Now, as Prometheus writes times.
pub(crate) fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64()
}

/// A count as metrics have it.
#[expect(clippy::as_conversions, reason = "there is no other way; exact up to 2^53")]
pub(crate) const fn count(count: u64) -> f64 {
    count as f64
}
