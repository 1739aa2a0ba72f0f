//! The broker whose address people give: connecting to it, and reading a
//! stream from one end to the other in bounded memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::{
    Client, ConnectOptions, ServerAddr,
    jetstream::{
        self, ErrorCode, Message,
        consumer::{AckPolicy, Consumer, DeliverPolicy, Info, pull},
        context::{ConsumerInfoErrorKind, GetStreamErrorKind},
        message::StreamMessage,
        stream::{RawMessageErrorKind, Stream},
    },
};
use futures::StreamExt;
use time::OffsetDateTime;
use uuid::Uuid;

/// How long the broker may take to let somebody in.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a fetch waits where there is nothing.
const FETCH_WAIT: Duration = Duration::from_secs(1);
/// A consumer that nobody pulls from any more goes after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// A consumer for which nobody answers so long is not there.
const KNOWN_AFTER: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
}

impl Broker {
    /// Connects to the broker at this URL, or at one of several with commas
    /// between them. A URL, which may hold a password, is in no error.
    ///
    /// # Errors
    /// When it is no URL, or the broker can't be reached.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let servers: Vec<ServerAddr> = url
            .split(',')
            .map(|server| server.trim().parse())
            .collect::<Result<_, _>>()
            .ok()
            .context("the NATS URL must be like nats://user:password@host:4222")?;
        let mut options = ConnectOptions::new().name("passbook").connection_timeout(CONNECT);
        // The client does not take the user out of the address by itself.
        let user = servers.iter().find_map(|it| Some((it.username()?, it.password()?)));
        if let Some((user, password)) = user {
            options = options
                .user_and_password(user.to_owned(), password.to_owned())
                .custom_inbox_prefix(devstack::broker_users::inbox(user));
        }
        let client = options.connect(servers).await.context("connecting to NATS")?;
        Ok(Self { jetstream: jetstream::new(client.clone()), client })
    }

    /// The stream, or `None` where nobody has made it yet.
    ///
    /// # Errors
    /// When the broker does not tell.
    pub(crate) async fn stream(&self, name: &str) -> Result<Option<Stream>> {
        match self.jetstream.get_stream(name).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(missing)
                    if missing.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(error).with_context(|| format!("looking at {name}")),
            },
        }
    }
}

/// What a consumer says of itself; `None` where there is none.
///
/// # Errors
/// When the broker does not tell.
pub(crate) async fn consumer(stream: &Stream, name: &str) -> Result<Option<Info>> {
    match stream.consumer_info(name).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("looking at {name}")),
    }
}

/// What a look for one message found; `None` if it is not there.
///
/// # Errors
/// Any other.
pub(crate) fn found(
    answer: Result<StreamMessage, jetstream::stream::RawMessageError>,
) -> Result<Option<StreamMessage>> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Messages of a work queue that their consumer is done with and that are there
/// all the same: they were delivered as often as is allowed, and never will be
/// again. Sequence and time of the first `most`.
///
/// # Errors
/// When the broker does not tell.
pub(crate) async fn left_behind(
    stream: &Stream,
    consumer: &Info,
    most: usize,
) -> Result<Vec<(u64, OffsetDateTime)>> {
    let floor = consumer.ack_floor.stream_sequence;
    let mut next = stream.get_info().await?.state.first_sequence;
    let mut behind = Vec::new();
    while behind.len() < most && next <= floor {
        // A work queue lets nobody read beside its consumers: one by one.
        let filter = consumer.config.filter_subject.as_str();
        let message = found(stream.get_first_raw_message_by_subject(filter, next).await)?;
        let Some(message) = message.filter(|it| it.sequence <= floor) else { break };
        behind.push((message.sequence, message.time));
        next = message.sequence + 1;
    }
    Ok(behind)
}

/// A walk over what a stream holds when it begins: oldest first, each message
/// once, a bounded number in memory. Not for work queues, which let nobody
/// read beside their consumers.
#[derive(Debug)]
pub(crate) struct Walk {
    consumer: Consumer<pull::Config>,
    at_once: usize,
    /// The last sequence that is looked at; what comes later does not count.
    until: u64,
    /// The consumer's own number of the next message: a gap means that some
    /// were lost on the way.
    next: u64,
    /// How many are still to come.
    pub(crate) left: u64,
}

impl Walk {
    /// Begins a walk over the messages on these subjects, up to the sequence
    /// `until`, at most `at_once` of them in memory.
    ///
    /// # Errors
    /// When the broker refuses.
    pub(crate) async fn begin(
        stream: &Stream,
        subjects: &[String],
        until: u64,
        at_once: usize,
        headers_only: bool,
    ) -> Result<Self> {
        let config = pull::Config {
            // By name: who may make consumers, but not those of the services, can do no other.
            name: Some(format!("passbook-{}", Uuid::now_v7())),
            description: Some("a walk of the passbook tool".to_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            filter_subjects: subjects.to_vec(),
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            headers_only,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.context("reading a stream")?;
        let left = consumer.cached_info().num_pending;
        Ok(Self { consumer, at_once, until, next: 1, left })
    }

    /// The next messages; `None` at the end.
    ///
    /// # Errors
    /// When the broker is gone, or some messages were lost on the way here:
    /// then nothing can be said about all of them.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Message>>> {
        let begun = Instant::now();
        'fetches: while self.left > 0 {
            let fetch = self.consumer.fetch().max_messages(self.at_once).expires(FETCH_WAIT);
            let mut fetched = fetch.messages().await?;
            let mut batch = Vec::new();
            while let Some(message) = fetched.next().await {
                let message = match message {
                    Ok(message) => message,
                    // In a cluster, not every node knows of a new consumer at once. The client
                    // tells the server's status as text only.
                    Err(error)
                        if error.to_string().contains(": 503")
                            && batch.is_empty()
                            && begun.elapsed() < KNOWN_AFTER =>
                    {
                        tokio::time::sleep(FETCH_WAIT / 4).await;
                        continue 'fetches;
                    }
                    Err(error) => return Err(anyhow::Error::from_boxed(error)),
                };
                let info = message.info().map_err(anyhow::Error::from_boxed)?;
                ensure!(info.consumer_sequence == self.next, "the connection to NATS was lost");
                self.next += 1;
                self.left = info.pending;
                if info.stream_sequence > self.until {
                    self.left = 0;
                    break;
                }
                batch.push(message);
            }
            if batch.is_empty() && self.left > 0 {
                // Nothing came: what was left may have been removed meanwhile, or the broker be gone.
                self.left = self.consumer.get_info().await.context("reading a stream")?.num_pending;
            }
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
