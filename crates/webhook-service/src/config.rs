//! The settings of the service.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Args, Parser};
use runtime::{
    config::ProcessConfig,
    http::api::ApiConfig,
    postgres::{self, DatabaseConfig},
    setting::{Secret, parse_duration},
    telemetry::otlp::{self, TracesConfig},
};

use crate::{
    address::{AddressGuard, Network},
    delivery::DeliveryLimits,
    seal::SealingKeys,
};

/// The webhook-service: keeps the endpoints of webhooks, and delivers the event log to them.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub api: ApiConfig,
    #[command(flatten)]
    pub webhooks: WebhookConfig,
    #[command(flatten)]
    pub process: ProcessConfig,
    #[command(flatten)]
    pub traces: TracesConfig,
    /// The account database, with the role webhook_service.
    #[command(flatten)]
    pub database: DatabaseConfig,
}

/// The settings of webhooks.
#[derive(Debug, Clone, Args)]
pub struct WebhookConfig {
    /// Keys that encrypt the secrets of endpoints in the database: 32 bytes in base64 each, with
    /// commas between them. The first one encrypts, each one decrypts. Set the variable, not the
    /// flag.
    #[arg(long, env = "PASSBOOK_WEBHOOK_SECRET_KEYS", hide_env_values = true)]
    pub webhook_secret_keys: Secret,
    /// Networks that deliveries may reach although they are not public, such as 10.20.0.0/16, with
    /// commas between them.
    #[arg(
        long,
        env = "PASSBOOK_WEBHOOK_ALLOWED_NETWORKS",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub webhook_allowed_networks: Vec<Network>,
    /// Accept endpoints with http, too. For development.
    #[arg(long, env = "PASSBOOK_WEBHOOK_ALLOW_HTTP")]
    pub webhook_allow_http: bool,
    /// Time limit for one attempt.
    #[arg(long, env = "PASSBOOK_WEBHOOK_TIMEOUT", value_parser = parse_timeout, value_name = "DURATION", default_value = "20s")]
    pub webhook_timeout: Duration,
    /// Endpoints that this replica serves at a time. A quarter of them is for failing ones. As many
    /// more may wait for an answer that takes longer than two seconds.
    #[arg(long, env = "PASSBOOK_WEBHOOK_PLACES", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub webhook_places: u16,
    /// Requests at a time to one endpoint.
    #[arg(long, env = "PASSBOOK_WEBHOOK_IN_FLIGHT", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub webhook_in_flight: u16,
    /// An endpoint that fails for this long is disabled. Default: five days.
    #[arg(long, env = "PASSBOOK_WEBHOOK_DISABLE_AFTER", value_parser = parse_duration, value_name = "DURATION", default_value = "7200m")]
    pub webhook_disable_after: Duration,
    /// How long a secret signs beside its successor. Default: a day.
    #[arg(long, env = "PASSBOOK_WEBHOOK_SECRET_OVERLAP", value_parser = parse_duration, value_name = "DURATION", default_value = "1440m")]
    pub webhook_secret_overlap: Duration,
    /// How long after the start secrets that an earlier key has sealed are sealed with the first
    /// key. By then, each replica must have that key.
    #[arg(long, env = "PASSBOOK_WEBHOOK_RESEAL_AFTER", value_parser = parse_duration, value_name = "DURATION", default_value = "10m")]
    pub webhook_reseal_after: Duration,
}

/// The longest time limit for one attempt. The lease of an endpoint bounds it.
pub(crate) const LONGEST_ATTEMPT: Duration = Duration::from_secs(20);

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    let bounds = Duration::from_millis(100)..=LONGEST_ATTEMPT;
    if bounds.contains(&timeout) { Ok(timeout) } else { Err("must be 100ms to 20s".to_owned()) }
}

impl Config {
    /// Rejects invalid settings before a port is bound.
    ///
    /// # Errors
    /// The first invalid setting, by name.
    pub fn check(&self) -> anyhow::Result<()> {
        postgres::options(&self.database)?;
        self.webhooks.sealing_keys()?;
        otlp::endpoint(&self.traces)?;
        self.api.verifier().map(drop)
    }
}

impl WebhookConfig {
    pub(crate) fn sealing_keys(&self) -> anyhow::Result<Arc<SealingKeys>> {
        let keys = SealingKeys::parse(self.webhook_secret_keys.expose());
        let keys = keys.map_err(anyhow::Error::msg).context("PASSBOOK_WEBHOOK_SECRET_KEYS")?;
        Ok(Arc::new(keys))
    }

    pub(crate) fn guard(&self) -> AddressGuard {
        AddressGuard { allowed: self.webhook_allowed_networks.clone() }
    }

    pub(crate) fn limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            places: usize::from(self.webhook_places),
            in_flight: usize::from(self.webhook_in_flight),
            disable_after: self.webhook_disable_after,
        }
    }
}
