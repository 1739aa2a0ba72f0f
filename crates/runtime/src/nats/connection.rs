//! The connection to the broker. It reconnects by itself, without a limit
//! unless one is configured.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, jetstream};

use clap::Args;
use contract::{StreamStorage, permissions};

use super::refusal;
use crate::setting::{Secret, parse_duration};

/// The connection to the broker.
#[derive(Debug, Clone, Args)]
pub struct NatsConfig {
    /// Addresses of NATS servers, separated by commas.
    #[arg(
        long,
        env = "PASSBOOK_NATS_URL",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats_url: Secret,
    /// NATS user.
    #[arg(long, env = "PASSBOOK_NATS_USER", requires = "nats_password")]
    pub nats_user: Option<String>,
    /// NATS password: set the variable, not the flag.
    #[arg(long, env = "PASSBOOK_NATS_PASSWORD", hide_env_values = true, requires = "nats_user")]
    pub nats_password: Option<Secret>,
    /// PEM file of the CA behind the servers' certificates. With it, TLS is required. Without it,
    /// TLS is used if the server requires it, with the system's CAs.
    #[arg(long, env = "PASSBOOK_NATS_CA", value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// Time limit for one attempt to connect, such as 250ms, 5s or 2m.
    #[arg(long, env = "PASSBOOK_NATS_CONNECT_TIMEOUT", value_parser = parse_duration, value_name = "DURATION", default_value = "5s")]
    pub nats_connect_timeout: Duration,
    /// Pause between attempts to connect.
    #[arg(long, env = "PASSBOOK_NATS_RECONNECT_WAIT", value_parser = parse_duration, value_name = "DURATION", default_value = "2s")]
    pub nats_reconnect_wait: Duration,
    /// Failed attempts in a row before the process exits, for example 10. Default: unlimited.
    #[arg(long, env = "PASSBOOK_NATS_MAX_RECONNECTS")]
    pub nats_max_reconnects: Option<usize>,
    /// Replicas of each stream and consumer in the broker: 1, or 3 or 5 in a cluster.
    #[arg(long, env = "PASSBOOK_STREAM_REPLICAS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub stream_replicas: u8,
    /// Bytes of all streams in each server of the broker: 16MiB to 64TiB. The streams divide them,
    /// and the server reserves them. Existing streams are changed by `passbook streams` only.
    #[arg(long, env = contract::STREAM_STORAGE_VARIABLE, value_parser = StreamStorage::parse,
          value_name = "SIZE", default_value = StreamStorage::DEFAULT_TEXT)]
    pub stream_storage: StreamStorage,
}

const PING_EVERY: Duration = Duration::from_secs(5);

/// The server addresses in the configuration.
///
/// # Errors
/// If one is malformed.
pub fn servers(config: &NatsConfig) -> anyhow::Result<Vec<ServerAddr>> {
    config
        .nats_url
        .expose()
        .split(',')
        .map(|server| match server.trim() {
            "" => Err(std::io::Error::from(std::io::ErrorKind::InvalidInput)),
            address => address.parse(),
        })
        .collect::<Result<_, _>>()
        .context("PASSBOOK_NATS_URL must be addresses like nats://host:4222, separated by commas")
}

/// Connects, or keeps trying in the background: a process can start before its
/// broker. After `nats_max_reconnects` failed attempts in a row the client gives up,
/// and `health::watch_nats` ends the process.
///
/// # Errors
/// If the address is malformed.
pub async fn connect(config: &NatsConfig, name: &str) -> anyhow::Result<Client> {
    refusal::start_counters_at_zero();
    let wait = config.nats_reconnect_wait;
    let mut options = pinged(ConnectOptions::new())
        .name(name)
        // The permissions of the user allow no other inbox.
        .custom_inbox_prefix(permissions::inbox(name))
        .connection_timeout(config.nats_connect_timeout)
        .reconnect_delay_callback(move |attempt| if attempt <= 1 { Duration::ZERO } else { wait })
        .retry_on_initial_connect()
        .max_reconnects(config.nats_max_reconnects)
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to NATS"),
                Event::Disconnected => tracing::warn!("lost the connection to NATS"),
                Event::ServerError(error) => {
                    refusal::server_error(&error.to_string());
                    tracing::warn!(%error, "the NATS server reports an error");
                }
                other => tracing::warn!(event = %other, "an event of the NATS client"),
            }
        });
    let servers = servers(config)?;
    // The client ignores the user and password in an address.
    let in_address =
        servers.iter().find_map(|server| Some((server.username()?, server.password()?)));
    let given = config.nats_user.as_deref().zip(config.nats_password.as_ref().map(Secret::expose));
    if let Some((user, password)) = given.or(in_address) {
        options = options.user_and_password(user.to_owned(), password.to_owned());
    }
    with_ca(options, config.nats_ca.as_deref()).connect(servers).await.context("connecting to NATS")
}

/// Closes a silent connection after three pings, that is within 20 seconds. By default,
/// the client would wait for minutes.
#[must_use]
pub fn pinged(options: ConnectOptions) -> ConnectOptions {
    options.ping_interval(PING_EVERY)
}

/// Requires TLS with certificates of this CA, if one is given.
#[must_use]
pub fn with_ca(options: ConnectOptions, ca: Option<&Path>) -> ConnectOptions {
    match ca {
        Some(file) => options.add_root_certificates(file.to_owned()).require_tls(true),
        None => options,
    }
}

/// The JetStream context of a process. Create it once and clone it: each context
/// spawns a task.
#[must_use]
pub fn jetstream(client: &Client) -> jetstream::Context {
    jetstream::ContextBuilder::new()
        // During a leader election a stream does not answer: a retry is faster than a long wait.
        .timeout(Duration::from_secs(2))
        .ack_timeout(Duration::from_secs(5))
        .max_ack_inflight(10_000)
        .backpressure_on_inflight(true)
        .build(client.clone())
}

/// Sends buffered messages, mostly acks, before the process ends. Takes at most two
/// seconds.
pub async fn flush(client: &Client) {
    let flushed = tokio::time::timeout(Duration::from_secs(2), client.flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        tracing::warn!("flushing the NATS connection failed; some acks may be lost");
    }
}
