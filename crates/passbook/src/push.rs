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
    #[arg(long, value_name = "URL", env = "PASSBOOK_PUSHGATEWAY_URL", hide_env_values = true)]
    pushgateway_url: Option<String>,
}

/// A Pushgateway, if there is one.
pub(crate) struct Gateway(Option<Url>);

impl Push {
    /// To be asked before the work begins, which may take hours. A setting that was left empty is
    /// none.
    ///
    /// # Errors
    /// When it is no address of a gateway; without it, since it may hold a password.
    pub(crate) fn gateway(&self) -> Result<Gateway> {
        let form = "the Pushgateway's URL must have the form http://host:9091";
        let Some(url) = self.pushgateway_url.as_deref().map(str::trim).filter(|it| !it.is_empty())
        else {
            return Ok(Gateway(None));
        };
        let url = Url::parse(url).ok().context(form)?;
        let open = url.username().is_empty() && url.password().is_none();
        ensure!(url.scheme() == "http" && open, form);
        Ok(Gateway(Some(url)))
    }
}

impl Gateway {
    /// Replaces the metrics of these names in the group, a job and labels of it: `JOB/LABEL/VALUE`.
    /// Others stay as an earlier look left them, such as when the last complete one was.
    ///
    /// # Errors
    /// When the gateway does not take them.
    pub(crate) async fn replace(&self, group: &str, set: impl FnOnce()) -> Result<()> {
        let Some(gateway) = &self.0 else { return Ok(()) };
        let recorder = PrometheusBuilder::new().build_recorder();
        let text = recorder.handle();
        metrics::with_local_recorder(&recorder, set);
        let mut url = gateway.clone();
        let path = format!("{}/metrics/job/{group}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let client = reqwest::Client::builder().timeout(ANSWER).build()?;
        let answer = client.post(url).body(text.render()).send().await;
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
