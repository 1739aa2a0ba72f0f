//! The broker at an address from the command line: connecting, and looking up streams, consumers
//! and messages.

mod address;
mod stream_reader;

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{
    Client, ConnectOptions,
    jetstream::{
        self, ErrorCode,
        consumer::Info,
        context::{ConsumerInfoErrorKind, GetStreamErrorKind},
        message::StreamMessage,
        stream::{RawMessageError, RawMessageErrorKind, Stream},
    },
};
use runtime::nats::connection;
use time::OffsetDateTime;

pub(crate) use address::Address;
pub(crate) use stream_reader::StreamReader;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the broker.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
}

impl Broker {
    /// Connects to one of the servers.
    ///
    /// # Errors
    /// When a URL is malformed or no server can be reached.
    pub(crate) async fn connect(address: &Address) -> Result<Self> {
        let servers = address.servers()?;
        let mut options = connection::pinged(ConnectOptions::new())
            .name("passbook")
            .connection_timeout(CONNECT_TIMEOUT);
        // The client does not take the user and password out of the URL by itself.
        let user = servers.iter().find_map(|server| Some((server.username()?, server.password()?)));
        if let Some((user, password)) = user {
            options = options
                .user_and_password(user.to_owned(), password.to_owned())
                .custom_inbox_prefix(contract::permissions::inbox(user));
        }
        let options = connection::with_ca(options, address.authority());
        let client = options.connect(servers).await.context("connecting to NATS")?;
        Ok(Self { jetstream: jetstream::new(client.clone()), client })
    }

    /// The stream, or `None` if it does not exist.
    ///
    /// # Errors
    /// When the broker does not answer or refuses.
    pub(crate) async fn stream(&self, name: &str) -> Result<Option<Stream>> {
        match self.jetstream.get_stream(name).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(missing)
                    if missing.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(error).with_context(|| format!("reading the state of stream {name}")),
            },
        }
    }
}

/// A consumer's state, or `None` if it does not exist.
///
/// # Errors
/// When the broker does not answer or refuses.
pub(crate) async fn consumer(stream: &Stream, name: &str) -> Result<Option<Info>> {
    match stream.consumer_info(name).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading the state of consumer {name}")),
    }
}

/// Turns the broker's "no message found" into `None`.
///
/// # Errors
/// Any other error of the lookup.
pub(crate) fn optional_message(
    lookup: Result<StreamMessage, RawMessageError>,
) -> Result<Option<StreamMessage>> {
    match lookup {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sequence and time of the first `limit` messages of a work queue with all deliveries used up. The
/// broker still stores them behind the consumer's ack floor and never delivers them again.
///
/// # Errors
/// When the broker does not answer or refuses.
pub(crate) async fn exhausted_messages(
    stream: &Stream,
    consumer: &Info,
    limit: usize,
) -> Result<Vec<(u64, OffsetDateTime)>> {
    let floor = consumer.ack_floor.stream_sequence;
    let mut next = stream.get_info().await?.state.first_sequence;
    let mut exhausted = Vec::new();
    while exhausted.len() < limit && next <= floor {
        // A work queue allows no batched reads beside its consumers, so messages are read singly.
        let filter = consumer.config.filter_subject.as_str();
        let lookup = stream.get_first_raw_message_by_subject(filter, next).await;
        let message = optional_message(lookup)?;
        let Some(message) = message.filter(|message| message.sequence <= floor) else { break };
        exhausted.push((message.sequence, message.time));
        next = message.sequence + 1;
    }
    Ok(exhausted)
}

/// The number of messages not yet settled by a consumer: undelivered, and delivered without an ack.
pub(crate) fn unsettled(info: &Info) -> u64 {
    info.num_pending.saturating_add(u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX))
}
