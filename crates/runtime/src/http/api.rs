//! The settings and sockets of a service with a public API.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::bail;
use axum::http::Uri;
use clap::Args;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use super::address::{AddressConfig, TrustedProxies};
use super::{
    bearer::{TokenVerifier, parse_jwks_url},
    listener::{Listening, listen},
    rate_limit::RateLimits,
    request_layer::RequestLimits,
};
use crate::setting::parse_duration;

/// The public API.
#[derive(Debug, Clone, Args)]
pub struct ApiConfig {
    /// Address of the public API.
    #[arg(long, env = "PASSBOOK_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// URL of the JSON Web Key Set that verifies bearer tokens: https, or http on this machine. Set
    /// it or PASSBOOK_JWKS_FILE.
    #[arg(long, env = "PASSBOOK_JWKS_URL", hide_env_values = true, value_parser = parse_jwks_url)]
    pub jwks_url: Option<Uri>,
    /// The interval of fetches from that URL. A token with an unknown key causes another one, once in
    /// 30 s.
    #[arg(long, env = "PASSBOOK_JWKS_REFRESH", value_parser = parse_refresh, value_name = "DURATION", default_value = "5m")]
    pub jwks_refresh: Duration,
    /// File with the JSON Web Key Set. It is read again when it changes.
    #[arg(long, env = "PASSBOOK_JWKS_FILE", value_name = "PATH")]
    pub jwks_file: Option<PathBuf>,
    /// Required issuer (`iss`) of tokens.
    #[arg(long, env = "PASSBOOK_JWT_ISSUER", default_value = "passbook")]
    pub jwt_issuer: String,
    /// Required audience (`aud`) of tokens.
    #[arg(long, env = "PASSBOOK_JWT_AUDIENCE", default_value = "passbook")]
    pub jwt_audience: String,
    /// Maximum wait of a client with Prefer: wait=N.
    #[arg(long, env = "PASSBOOK_LONGEST_WAIT", value_parser = parse_duration, value_name = "DURATION", default_value = "30s")]
    pub longest_wait: Duration,
    /// After SIGTERM, how long to keep serving while /readyz fails, so that load balancers stop
    /// routing requests here. The grace period starts after it.
    #[arg(long, env = "PASSBOOK_DRAIN_DELAY", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub drain_delay: Duration,
    /// Maximum requests in process, waiting clients included. Further requests get 503.
    #[arg(long, env = "PASSBOOK_MOST_REQUESTS", default_value_t = 20_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub most_requests: u32,
    /// Maximum requests a second of a customer, by this replica: ten times as many at once. 0: no
    /// limit.
    #[arg(long, env = "PASSBOOK_CUSTOMER_RATE_LIMIT", default_value_t = 20, value_name = "A SECOND",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub customer_rate_limit: u32,
    /// The same for each teller and admin.
    #[arg(long, env = "PASSBOOK_RATE_LIMIT", default_value_t = 0, value_name = "A SECOND",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate_limit: u32,
    #[command(flatten)]
    pub addresses: AddressConfig,
}

impl ApiConfig {
    /// The verifier of tokens, with the limit of requests without a valid one.
    ///
    /// # Errors
    /// If there is no source of keys or two, or the file has no usable keys.
    pub fn verifier(&self) -> anyhow::Result<TokenVerifier> {
        let (issuer, audience) = (&self.jwt_issuer, &self.jwt_audience);
        let verifier = match (&self.jwks_url, &self.jwks_file) {
            (Some(url), None) => {
                TokenVerifier::at_url(url.clone(), self.jwks_refresh, issuer, audience)
            }
            (None, Some(file)) => TokenVerifier::in_file(file.clone(), issuer, audience),
            (Some(_), Some(_)) => {
                bail!("PASSBOOK_JWKS_URL and PASSBOOK_JWKS_FILE are both set: set one of them")
            }
            (None, None) => bail!(
                "set PASSBOOK_JWKS_URL or PASSBOOK_JWKS_FILE: the keys of the issuer of tokens, \
                 as a JSON Web Key Set"
            ),
        };
        verifier.map(|verifier| verifier.with_limit(&self.addresses))
    }

    /// The limits of requests. `draining` is cancelled when the stop begins.
    ///
    /// # Errors
    /// If the number of requests exceeds the address space.
    pub fn limits(&self, draining: CancellationToken) -> anyhow::Result<RequestLimits> {
        let permits = Arc::new(Semaphore::new(usize::try_from(self.most_requests)?));
        let rates = RateLimits::new(self.customer_rate_limit, self.rate_limit);
        Ok(RequestLimits::new(permits, draining, rates))
    }
}

/// Parses the interval of fetches of keys: a second to a day.
fn parse_refresh(text: &str) -> Result<Duration, String> {
    let refresh = parse_duration(text)?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
    if bounds.contains(&refresh) { Ok(refresh) } else { Err("must be 1s to 1440m".to_owned()) }
}

/// The sockets of a service.
#[derive(Debug)]
pub struct Listeners {
    /// The public API.
    pub api: Listening,
    pub admin: Listening,
}

impl Listeners {
    /// Binds both addresses.
    ///
    /// # Errors
    /// If one is not free. The error names its setting.
    pub fn bind(api: SocketAddr, admin: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            api: listen("PASSBOOK_LISTEN", api)?,
            admin: listen("PASSBOOK_ADMIN_LISTEN", admin)?,
        })
    }
}
