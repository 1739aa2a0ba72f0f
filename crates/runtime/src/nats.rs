//! The connection to the broker. It comes back by itself, for ever unless
//! configured otherwise.

use std::{path::Path, time::Duration};

use anyhow::Context;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, jetstream};

use crate::config::{NatsConfig, Secret};

const PING_EVERY: Duration = Duration::from_secs(5);

/// The addresses in the configuration.
///
/// # Errors
/// If one can't be read.
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
/// broker does. When the configured number of attempts is used up, the client is
/// gone; `health::watch_nats` sees that and ends the process.
///
/// # Errors
/// If the address can't be read.
pub async fn connect(config: &NatsConfig, name: &str) -> anyhow::Result<Client> {
    let wait = config.nats_reconnect_wait;
    let mut options = ConnectOptions::new()
        .name(name)
        // Its user may get answers nowhere else.
        .custom_inbox_prefix(format!("_INBOX_{name}"))
        .connection_timeout(config.nats_connect_timeout)
        // A connection whose other end is silent is given up after three of them.
        .ping_interval(PING_EVERY)
        .reconnect_delay_callback(move |attempt| if attempt <= 1 { Duration::ZERO } else { wait })
        .retry_on_initial_connect()
        .max_reconnects(config.nats_max_reconnects)
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("connected to NATS"),
                Event::Disconnected => tracing::warn!("lost the connection to NATS"),
                other => tracing::warn!(event = %other, "NATS"),
            }
        });
    let servers = servers(config)?;
    // The client ignores a user in the address; there, it is easily put and easily missed.
    let in_address = servers.iter().find_map(|it| Some((it.username()?, it.password()?)));
    let given = config.nats_user.as_deref().zip(config.nats_password.as_ref().map(Secret::expose));
    if let Some((user, password)) = given.or(in_address) {
        options = options.user_and_password(user.to_owned(), password.to_owned());
    }
    under(options, config.nats_ca.as_deref()).connect(servers).await.context("connecting to NATS")
}

/// Connects only to servers that this authority vouches for, if there is one.
#[must_use]
pub fn under(options: ConnectOptions, authority: Option<&Path>) -> ConnectOptions {
    match authority {
        Some(file) => options.add_root_certificates(file.to_owned()).require_tls(true),
        None => options,
    }
}

/// The JetStream context of a process. Made once and cloned: each one spawns a
/// task of its own.
#[must_use]
pub fn jetstream(client: &Client) -> jetstream::Context {
    jetstream::ContextBuilder::new()
        // A stream whose leader is being elected does not answer at all: better to ask again.
        .timeout(Duration::from_secs(2))
        .ack_timeout(Duration::from_secs(5))
        .max_ack_inflight(10_000)
        .backpressure_on_inflight(true)
        .build(client.clone())
}

/// Sends what is still on its way (acks, above all) before the process ends.
pub async fn flush(client: &Client) {
    let flushed = tokio::time::timeout(Duration::from_secs(2), client.flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        tracing::warn!("NATS did not take everything before the end");
    }
}
