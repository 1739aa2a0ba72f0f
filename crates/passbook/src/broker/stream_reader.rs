//! Reading a stream from its beginning in bounded memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_nats::{
    Client,
    jetstream::{message::StreamMessage, stream::Stream},
};
use futures::StreamExt;
use serde_json::json;

use super::{Broker, optional_message};

/// Limit for the next message of a batch.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The approximate size of a batch, in bytes.
const MAX_BATCH_BYTES: u32 = 8 << 20;
/// Limit for a replica to catch up with the stream's leader.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two requests to a replica behind its leader.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(250);
/// Statuses in the broker's responses to a direct get.
const END_OF_BATCH: u16 = 204;
const NOT_FOUND: u16 = 404;
const NO_RESPONDERS: u16 = 503;

/// Reads the messages of a stream in batches: oldest first, each once, up to a last sequence.
///
/// The batches are direct gets (ADR-31 of NATS), not deliveries of a consumer: a user permitted to
/// create consumers may also make them deliver to any subject. Work queues allow no direct gets.
#[derive(Debug)]
pub(crate) struct StreamReader {
    client: Client,
    stream: Stream,
    subjects: String,
    batch_size: usize,
    /// The last sequence to read; later messages are left out.
    until: u64,
    /// The first sequence of the next batch.
    next: u64,
    /// Messages read ahead of `next_batch`.
    buffer: Vec<StreamMessage>,
    remaining: u64,
}

impl StreamReader {
    /// Opens a reader for the messages on these subjects, up to the sequence `until`, with at most
    /// `batch_size` messages in memory.
    ///
    /// # Errors
    /// When the broker does not answer or refuses.
    pub(crate) async fn open(
        broker: &Broker,
        stream: &Stream,
        subjects: &str,
        until: u64,
        batch_size: usize,
    ) -> Result<Self> {
        let mut reader = Self {
            client: broker.client.clone(),
            stream: stream.clone(),
            subjects: subjects.to_owned(),
            batch_size,
            until,
            next: 1,
            buffer: Vec::new(),
            remaining: 0,
        };
        reader.fill_buffer().await.context("reading a stream")?;
        Ok(reader)
    }

    /// The number of messages still to read, as far as the answering replica knows.
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next messages; `None` at the end.
    ///
    /// # Errors
    /// When the broker does not answer, or messages were lost on their way here. Then the stream
    /// was not read completely.
    pub(crate) async fn next_batch(&mut self) -> Result<Option<Vec<StreamMessage>>> {
        if self.buffer.is_empty() {
            self.fill_buffer().await.context("reading a stream")?;
        }
        let batch = std::mem::take(&mut self.buffer);
        self.remaining = self.remaining.saturating_sub(u64::try_from(batch.len()).unwrap_or(0));
        Ok((!batch.is_empty()).then_some(batch))
    }

    async fn fill_buffer(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.next <= self.until {
            let (batch, pending) = self.fetch().await?;
            if let Some(last) = batch.last() {
                self.next = last.sequence + 1;
                self.remaining = pending + u64::try_from(batch.len()).unwrap_or(0);
                self.buffer =
                    batch.into_iter().filter(|message| message.sequence <= self.until).collect();
                return Ok(());
            }
            // An empty batch is no proof of the end: in a cluster, the answering replica may be
            // behind. This lookup goes to the leader.
            let lookup = self.stream.get_first_raw_message_by_subject(&*self.subjects, self.next);
            let message = optional_message(lookup.await)?;
            match message.filter(|message| message.sequence <= self.until) {
                None => self.next = self.until.saturating_add(1),
                Some(_) if begun.elapsed() > CATCH_UP_TIMEOUT => {
                    bail!("a replica of the stream stays behind its leader")
                }
                Some(_) => tokio::time::sleep(CATCH_UP_PAUSE).await,
            }
        }
        Ok(())
    }

    /// Messages from `next` on, and the number of messages after them.
    async fn fetch(&self) -> Result<(Vec<StreamMessage>, u64)> {
        let inbox = self.client.new_inbox();
        let mut responses = self.client.subscribe(inbox.clone()).await?;
        let name = &self.stream.cached_info().config.name;
        let request = json!({
            "seq": self.next, "next_by_subj": self.subjects,
            "batch": self.batch_size, "max_bytes": MAX_BATCH_BYTES,
        });
        let subject = format!("$JS.API.DIRECT.GET.{name}");
        let request = serde_json::to_vec(&request)?;
        self.client.publish_with_reply(subject, inbox, request.into()).await?;
        let mut batch: Vec<StreamMessage> = Vec::new();
        loop {
            let response = tokio::time::timeout(MESSAGE_TIMEOUT, responses.next()).await;
            let response = response.ok().flatten().context("NATS does not answer")?;
            let status = response.status.map(|status| status.as_u16());
            let header = |name: &str| {
                let value = response.headers.as_ref().and_then(|headers| headers.get_last(name));
                value.and_then(|value| value.as_str().parse::<u64>().ok()).unwrap_or(0)
            };
            // Each response names the sequence of the message before it.
            let previous = batch.last().map_or(0, |message| message.sequence);
            let complete = header("Nats-Last-Sequence") == previous;
            match status {
                None => {}
                Some(END_OF_BATCH) => {
                    ensure!(complete, "the connection to NATS was lost");
                    return Ok((batch, header("Nats-Num-Pending")));
                }
                Some(NOT_FOUND) => return Ok((batch, 0)),
                Some(NO_RESPONDERS) => bail!(
                    "{name} can't be read: it has no leader, or does not allow direct gets (the \
                     services of this release and `passbook streams` set allow_direct)"
                ),
                Some(status) => bail!("NATS answers {status}"),
            }
            ensure!(complete, "the connection to NATS was lost");
            batch.push(response.try_into()?);
        }
    }
}
