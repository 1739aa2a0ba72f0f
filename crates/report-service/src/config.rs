//! The settings of the service.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use artifacts::StorageConfig;
use axum::http::Uri;
use clap::{Args, Parser};
use reporting::{Accounts, Ledger, activity::ActivityConfig, analysis::LlmConfig};
use runtime::{
    config::ServiceConfig,
    http::{
        api::ApiConfig,
        bearer::TokenVerifier,
        client::{HttpClient, parse_url},
    },
    setting::{Secret, parse_duration},
};

use crate::{
    figures::{self, Figures},
    job::Tries,
    queue::QueueConfig,
    signer::Signer,
    worker::{RemoteRenderer, Renderer},
};

/// The report-service: takes requests for reports over HTTP, makes the reports one at a time, and
/// keeps their files.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub api: ApiConfig,
    #[command(flatten)]
    pub report: ReportConfig,
    #[command(flatten)]
    pub storage: StorageConfig,
    #[command(flatten)]
    pub service: ServiceConfig,
}

/// The settings of reports.
#[derive(Debug, Clone, Args)]
pub struct ReportConfig {
    /// URL of the transaction database, with the role report_reader. It may be a replica.
    #[arg(long, env = "PASSBOOK_REPORT_LEDGER_URL", hide_env_values = true)]
    pub report_ledger_url: Secret,
    /// URL of the account database, with the role report_reader. It may be a replica.
    #[arg(long, env = "PASSBOOK_REPORT_ACCOUNTS_URL", hide_env_values = true)]
    pub report_accounts_url: Secret,
    #[command(flatten)]
    pub queue: QueueConfig,
    /// The delay after a first failed attempt. It doubles with each further one, up to 10 minutes.
    #[arg(long, env = "PASSBOOK_REPORT_RETRY_DELAY", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub report_retry_delay: Duration,
    /// How long files are kept, in days.
    #[arg(long, env = "PASSBOOK_REPORT_RETENTION", value_parser = parse_days, value_name = "DAYS", default_value = "30d")]
    pub report_retention: Duration,
    /// The interval of the search for expired and orphaned files.
    #[arg(long, env = "PASSBOOK_REPORT_CLEANUP_EVERY", value_parser = parse_duration, value_name = "DURATION", default_value = "5m")]
    pub report_cleanup_every: Duration,
    /// Directory of temporary files. Default: the system's.
    #[arg(long, env = "PASSBOOK_REPORT_SCRATCH_DIR", value_name = "DIR")]
    pub report_scratch_dir: Option<PathBuf>,
    /// The institution's name on documents.
    #[arg(long, env = "PASSBOOK_REPORT_ISSUER", default_value = "Passbook")]
    pub report_issuer: String,
    /// Private key (Ed25519, PKCS#8 in PEM) that signs files. Without it, files are not signed.
    /// Set the variable, not the flag.
    #[arg(long, env = "PASSBOOK_REPORT_SIGNING_KEY", hide_env_values = true)]
    pub report_signing_key: Option<Secret>,
    /// URL of an HTTP function that renders reports. Default: rendered in this process.
    #[arg(long, env = "PASSBOOK_REPORT_RENDERER_URL", hide_env_values = true, value_parser = parse_url)]
    pub report_renderer_url: Option<Uri>,
    /// Time limit for one request to the function.
    #[arg(long, env = "PASSBOOK_REPORT_RENDERER_TIMEOUT", value_parser = parse_duration, value_name = "DURATION", default_value = "15m")]
    pub report_renderer_timeout: Duration,
    /// Bearer token for the function: set the variable, not the flag.
    #[arg(long, env = "PASSBOOK_REPORT_RENDERER_TOKEN", hide_env_values = true)]
    pub report_renderer_token: Option<Secret>,
    /// URL that receives alerts, as JSON that Slack understands. Default: alerts are logged.
    #[arg(long, env = "PASSBOOK_REPORT_ALERT_WEBHOOK_URL", hide_env_values = true, value_parser = parse_url)]
    pub report_alert_webhook_url: Option<Uri>,
    #[command(flatten)]
    pub activity: ActivityConfig,
    #[command(flatten)]
    pub llm: LlmConfig,
}

/// Parses days: `30d`, or a shorter duration such as `90s`.
fn parse_days(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) => Ok(Duration::from_secs(u64::from(days) * 24 * 60 * 60)),
        Some(Err(_)) => Err("must be like 30d, 5m or 90s".to_owned()),
        None => parse_duration(text),
    }
}

/// The parts made from the settings.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) verifier: TokenVerifier,
    pub(crate) signer: Option<Arc<Signer>>,
    pub(crate) accounts: Accounts,
    pub(crate) ledger: Ledger,
    pub(crate) figures: Figures,
    pub(crate) renderer: Renderer,
    /// The receiver of alerts.
    pub(crate) webhook: Option<HttpClient>,
}

impl Config {
    /// Rejects invalid settings before a port is bound.
    ///
    /// # Errors
    /// The first invalid setting, by name.
    pub fn check(&self) -> anyhow::Result<()> {
        self.service.check()?;
        self.parts().map(drop)
    }

    pub(crate) fn parts(&self) -> anyhow::Result<Parts> {
        let report = &self.report;
        report.queue.check(self.service.process.grace_period)?;
        let verifier = self.api.verifier()?;
        let signer = report.report_signing_key.as_ref();
        let signer = signer.map(|key| Signer::parse(key.expose()).map(Arc::new)).transpose()?;
        let ledger =
            Ledger::new(report.report_ledger_url.expose()).context("PASSBOOK_REPORT_LEDGER_URL")?;
        let accounts = Accounts::new(report.report_accounts_url.expose())
            .context("PASSBOOK_REPORT_ACCOUNTS_URL")?;
        let webhook = report.report_alert_webhook_url.clone().map(HttpClient::new).transpose();
        let webhook = webhook.context("PASSBOOK_REPORT_ALERT_WEBHOOK_URL")?;
        let renderer = match &report.report_renderer_url {
            None => Renderer::Local,
            Some(url) => Renderer::Remote(Box::new(RemoteRenderer {
                http: HttpClient::new(url.clone()).context("PASSBOOK_REPORT_RENDERER_URL")?,
                token: report.report_renderer_token.clone(),
                timeout: report.report_renderer_timeout,
            })),
        };
        let figures = Figures {
            ledger: ledger.clone(),
            accounts: accounts.clone(),
            sources: figures::sources(
                report.report_accounts_url.expose(),
                report.report_ledger_url.expose(),
            )?,
            activity: report.activity,
            model: report.llm.client()?,
            issuer: report.report_issuer.clone(),
        };
        Ok(Parts { verifier, signer, accounts, ledger, figures, renderer, webhook })
    }
}

impl ReportConfig {
    pub(crate) fn tries(&self) -> Tries {
        Tries {
            max_failures: i32::from(self.queue.report_max_deliver),
            delay: self.report_retry_delay,
        }
    }

    /// Shorter than the wait of the server, so that a redelivered message finds the lease
    /// over.
    pub(crate) fn lease(&self) -> Duration {
        self.queue.report_ack_wait * 5 / 6
    }

    pub(crate) fn scratch_dir(&self) -> PathBuf {
        self.report_scratch_dir
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join("passbook-reports"))
    }

    /// The name of this replica in the attempts: its host and process.
    pub(crate) fn worker_name(&self) -> String {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        format!("{}/{}", host.trim(), std::process::id())
    }
}
