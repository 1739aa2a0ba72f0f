//! The settings and sockets of a service with a public API.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{bearer::TokenVerifier, rate_limit::RateLimits, request_layer::RequestLimits};
use crate::setting::parse_duration;

/// Maximum connections of the API that the kernel holds until they are accepted.
const QUEUE: u32 = 4096;

/// The public API.
#[derive(Debug, Clone, Args)]
pub struct ApiConfig {
    /// Address of the public API.
    #[arg(long, env = "PASSBOOK_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Public key (Ed25519, PEM) that verifies bearer tokens.
    #[arg(long, env = "PASSBOOK_JWT_PUBLIC_KEY")]
    pub jwt_public_key: String,
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
}

impl ApiConfig {
    /// The verifier of tokens.
    ///
    /// # Errors
    /// If the key is not an Ed25519 public key in PEM.
    pub fn verifier(&self) -> anyhow::Result<TokenVerifier> {
        TokenVerifier::new(&self.jwt_public_key, &self.jwt_issuer, &self.jwt_audience)
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

/// The sockets of a service.
#[derive(Debug)]
pub struct Listeners {
    /// The public API.
    pub api: TcpListener,
    pub admin: TcpListener,
}

impl Listeners {
    /// Binds both addresses.
    ///
    /// # Errors
    /// If one is not free. The error names its setting.
    pub async fn bind(api: SocketAddr, admin: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            api: listen(api).with_context(|| format!("PASSBOOK_LISTEN: listening on {api}"))?,
            admin: TcpListener::bind(admin)
                .await
                .with_context(|| format!("PASSBOOK_ADMIN_LISTEN: listening on {admin}"))?,
        })
    }
}

/// Listens with a longer queue than the default of 128: a replica that pauses for a moment, as
/// under a CPU limit, would lose connections, which their clients repeat after a second.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}
