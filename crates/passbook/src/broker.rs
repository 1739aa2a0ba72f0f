//! The broker whose address people give: connecting to it, and reading a
//! stream from one end to the other in bounded memory.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use async_nats::{
    Client, ConnectOptions, ServerAddr,
    jetstream::{
        self, ErrorCode,
        consumer::Info,
        context::{ConsumerInfoErrorKind, GetStreamErrorKind},
        message::StreamMessage,
        stream::{RawMessageErrorKind, Stream},
    },
};
use clap::Args;
use futures::StreamExt;
use runtime::nats::connection;
use serde_json::json;
use time::OffsetDateTime;

/// How long the broker may take to let somebody in.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the next message of a batch may take.
const ANSWER: Duration = Duration::from_secs(10);
/// A batch ends before it holds more than about this.
const MOST_BYTES: u32 = 8 << 20;
/// Statuses of answers.
const END_OF_BATCH: u16 = 204;
const NOT_FOUND: u16 = 404;
const NO_RESPONDERS: u16 = 503;
/// What a replica does not know after this, it does not learn.
const KNOWN_AFTER: Duration = Duration::from_secs(10);

/// Where NATS is, as people give it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Address of NATS, with a user that may read, and where needed write, its streams.
    #[arg(long, value_name = "URL", env = "PASSBOOK_NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// File of the authority (PEM) that signs the certificates of NATS's servers. With it, nothing
    /// is sent unencrypted.
    #[arg(long, value_name = "FILE", env = "PASSBOOK_NATS_CA")]
    nats_ca: Option<PathBuf>,
}

impl Place {
    /// The address, if one is given.
    pub(crate) fn address(&self) -> Option<Address> {
        let url = self.nats_url.clone()?;
        Some(Address { url, authority: self.nats_ca.clone() })
    }
}

/// Where the broker is, and who vouches for it. It may hold a password, and is
/// in no error.
#[derive(Clone)]
pub(crate) struct Address {
    url: String,
    authority: Option<PathBuf>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(address)")
    }
}

impl Address {
    /// A broker that does not encrypt.
    pub(crate) fn plain(url: String) -> Self {
        Self { url, authority: None }
    }

    /// The servers that it names.
    ///
    /// # Errors
    /// When it is no URL.
    pub(crate) fn servers(&self) -> Result<Vec<ServerAddr>> {
        let servers: Result<_, _> = self.url.split(',').map(|it| it.trim().parse()).collect();
        servers.ok().context("the NATS URL must be like nats://user:password@host:4222")
    }
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
}

impl Broker {
    /// Connects to one of the servers.
    ///
    /// # Errors
    /// When it is no URL, or the broker can't be reached.
    pub(crate) async fn connect(address: &Address) -> Result<Self> {
        let servers = address.servers()?;
        let mut options = ConnectOptions::new().name("passbook").connection_timeout(CONNECT);
        // The client does not take the user out of the address by itself.
        let user = servers.iter().find_map(|it| Some((it.username()?, it.password()?)));
        if let Some((user, password)) = user {
            options = options
                .user_and_password(user.to_owned(), password.to_owned())
                .custom_inbox_prefix(contract::permissions::inbox(user));
        }
        let options = connection::with_ca(options, address.authority.as_deref());
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
/// once, a bounded number in memory. It reads messages in batches ("direct get",
/// ADR-31 of NATS) and not through a consumer: who may make one may also let it
/// deliver to any subject. Not for work queues, which do not allow it.
#[derive(Debug)]
pub(crate) struct Walk {
    client: Client,
    stream: Stream,
    subjects: String,
    at_once: usize,
    /// The last sequence that is looked at; what comes later does not count.
    until: u64,
    /// Where the next batch begins.
    next: u64,
    /// What was read and not given yet.
    ahead: Vec<StreamMessage>,
    /// How many are still to come, as far as the replica that answered knows.
    pub(crate) left: u64,
}

impl Walk {
    /// Begins a walk over the messages on these subjects, up to the sequence
    /// `until`, at most `at_once` of them in memory.
    ///
    /// # Errors
    /// When the broker refuses.
    pub(crate) async fn begin(
        broker: &Broker,
        stream: &Stream,
        subjects: &str,
        until: u64,
        at_once: usize,
    ) -> Result<Self> {
        let (client, stream) = (broker.client.clone(), stream.clone());
        let (subjects, ahead, left) = (subjects.to_owned(), Vec::new(), 0);
        let mut walk = Self { client, stream, subjects, at_once, until, next: 1, ahead, left };
        walk.read_ahead().await.context("reading a stream")?;
        Ok(walk)
    }

    /// The next messages; `None` at the end.
    ///
    /// # Errors
    /// When the broker is gone, or some messages were lost on the way here:
    /// then nothing can be said about all of them.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<StreamMessage>>> {
        if self.ahead.is_empty() {
            self.read_ahead().await.context("reading a stream")?;
        }
        let batch = std::mem::take(&mut self.ahead);
        self.left = self.left.saturating_sub(u64::try_from(batch.len()).unwrap_or(0));
        Ok((!batch.is_empty()).then_some(batch))
    }

    async fn read_ahead(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.next <= self.until {
            let (batch, pending) = self.batch().await?;
            if let Some(last) = batch.last() {
                self.next = last.sequence + 1;
                self.left = pending + u64::try_from(batch.len()).unwrap_or(0);
                self.ahead = batch.into_iter().filter(|it| it.sequence <= self.until).collect();
                return Ok(());
            }
            // In a cluster, the replica that answers may be behind. The leader knows.
            let more = self.stream.get_first_raw_message_by_subject(&*self.subjects, self.next);
            match found(more.await)?.filter(|it| it.sequence <= self.until) {
                None => self.next = self.until.saturating_add(1),
                Some(_) if begun.elapsed() > KNOWN_AFTER => bail!("a replica stays behind"),
                Some(_) => tokio::time::sleep(KNOWN_AFTER / 40).await,
            }
        }
        Ok(())
    }

    /// Some messages from `next` on, and how many come behind them.
    async fn batch(&self) -> Result<(Vec<StreamMessage>, u64)> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await?;
        let name = &self.stream.cached_info().config.name;
        let request = json!({
            "seq": self.next, "next_by_subj": self.subjects,
            "batch": self.at_once, "max_bytes": MOST_BYTES,
        });
        let (to, request) = (format!("$JS.API.DIRECT.GET.{name}"), serde_json::to_vec(&request)?);
        self.client.publish_with_reply(to, inbox, request.into()).await?;
        let mut batch: Vec<StreamMessage> = Vec::new();
        loop {
            let answer = tokio::time::timeout(ANSWER, answers.next()).await;
            let answer = answer.ok().flatten().context("NATS does not answer")?;
            let status = answer.status.map(|status| status.as_u16());
            let number = |name: &str| {
                let value = answer.headers.as_ref().and_then(|headers| headers.get_last(name));
                value.and_then(|value| value.as_str().parse::<u64>().ok()).unwrap_or(0)
            };
            // Each names the one before it.
            let before = batch.last().map_or(0, |message| message.sequence);
            let whole = number("Nats-Last-Sequence") == before;
            match status {
                None => {}
                Some(END_OF_BATCH) => {
                    ensure!(whole, "the connection to NATS was lost");
                    return Ok((batch, number("Nats-Num-Pending")));
                }
                Some(NOT_FOUND) => return Ok((batch, 0)),
                Some(NO_RESPONDERS) => bail!(
                    "{name} can't be read: it does not allow direct gets (the services of this \
                     release and `passbook streams` set that), or has no leader"
                ),
                Some(status) => bail!("NATS answers {status}"),
            }
            ensure!(whole, "the connection to NATS was lost");
            batch.push(answer.try_into()?);
        }
    }
}
