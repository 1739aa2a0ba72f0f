//! Messages that reached `max_deliver`, because their workers crashed or stopped
//! before settling them. The server does not redeliver such a message again. It keeps
//! the message in the stream and publishes an advisory, which another stream
//! captures. This handler dead-letters the message and deletes it from its work queue.
//! A service with its own record of the message can settle it there instead.

use std::{future::Future, sync::Arc, time::SystemTime};

use anyhow::Context;
use async_nats::{
    Client,
    jetstream::{self, message::StreamMessage, stream::LastRawMessageErrorKind},
};
use contract::{ConsumerSpec, Retention, StreamSpec, Topology, dead_letter::message_place};
use serde::Deserialize;
use time::OffsetDateTime;

use super::{Delivery, Failure, Handler, Verdict, dead_letter::dead_letter, delivery::Received};
use crate::{
    failpoint,
    nats::{outgoing::Outgoing, publish::publish_all},
};

/// Decides the end of a message that is not redelivered any more.
pub trait Exhausted: Send + Sync + 'static {
    /// The reason of the dead letter. `None` if the message needs none, because its
    /// work is recorded elsewhere; it is then deleted only.
    ///
    /// # Errors
    /// If the decision can't be made now. It is asked for again later.
    fn settle(
        &self,
        message: &StreamMessage,
        reason: String,
    ) -> impl Future<Output = anyhow::Result<Option<String>>> + Send;
}

/// Dead-letters every message.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterAll;

impl Exhausted for DeadLetterAll {
    async fn settle(&self, _: &StreamMessage, reason: String) -> anyhow::Result<Option<String>> {
        Ok(Some(reason))
    }
}

/// Handles the advisories about a service's consumers.
#[derive(Debug)]
pub struct MaxDeliveries<E> {
    /// Provides the server's maximum payload.
    pub client: Client,
    /// Reads, publishes and deletes messages.
    pub jetstream: jetstream::Context,
    /// The streams and consumers that an advisory can name.
    pub topology: &'static Topology,
    /// Decides about each message.
    pub exhausted: Arc<E>,
}

/// The server's advisory (`io.nats.jetstream.advisory.v1.max_deliver`).
#[derive(Debug, Deserialize)]
struct Advisory {
    consumer: String,
    stream_seq: u64,
    deliveries: u64,
    /// When the message reached the limit.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

/// The dead letters of a message that the broker does not store now.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
struct UnstoredError {
    letters: Vec<Outgoing>,
    reason: String,
}

impl<E: Exhausted> Handler for MaxDeliveries<E> {
    async fn process(&self, batch: &[Delivery]) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for delivery in batch {
            verdicts.push(match serde_json::from_slice(&delivery.payload) {
                Ok(advisory) => match self.handle(&advisory).await {
                    Ok(verdict) => verdict,
                    Err(error) => kept(error)?,
                },
                Err(error) => Verdict::DeadLetter(format!("not an advisory: {error}")),
            });
        }
        Ok(verdicts)
    }
}

/// An advisory whose dead letters are not stored is kept, and holds up no other.
fn kept(error: anyhow::Error) -> Result<Verdict, Failure> {
    let UnstoredError { letters, reason } = error.downcast().map_err(Failure::Transient)?;
    Ok(Verdict::Unstored { letters, reason })
}

impl<E: Exhausted> MaxDeliveries<E> {
    async fn handle(&self, advisory: &Advisory) -> anyhow::Result<Verdict> {
        let Some(consumer) = self.topology.consumer(&advisory.consumer) else {
            return Ok(Verdict::DeadLetter(format!(
                "the contract has no consumer {}",
                advisory.consumer
            )));
        };
        let spec = self.topology.stream(consumer.stream);
        let spec = spec.context("the contract has no such stream")?;
        let stream = self.jetstream.get_stream_no_info(spec.name).await?;
        let message = match stream.get_raw_message(advisory.stream_seq).await {
            Ok(message) => message,
            // The message was dead-lettered before, or acked late.
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok(Verdict::Done(None));
            }
            Err(error) => return Err(error.into()),
        };
        if message.time > advisory.timestamp {
            // The stream was recreated, with sequences from 1: this is another message.
            return Ok(Verdict::Done(None));
        }
        let reason = format!("delivered {} times and never settled", advisory.deliveries);
        let reason = self.exhausted.settle(&message, reason).await?;
        settle_stored(&self.client, &self.jetstream, (spec, consumer), &message, reason).await?;
        Ok(Verdict::Done(None))
    }
}

/// Dead-letters a stored message, if there is a reason to, and deletes it from its
/// work queue. The order is dead letter, PubAck, deletion. After a crash in between,
/// all of it is repeated.
pub(super) async fn settle_stored(
    client: &Client,
    jetstream: &jetstream::Context,
    (spec, consumer): (&StreamSpec, &ConsumerSpec),
    message: &StreamMessage,
    reason: Option<String>,
) -> anyhow::Result<()> {
    if let Some(reason) = reason {
        dead_letter_stored(client, jetstream, consumer, message, reason).await?;
    }
    if spec.retention == Retention::WorkQueue {
        let stream = jetstream.get_stream_no_info(spec.name).await?;
        if let Err(error) = stream.delete_message(message.sequence).await {
            // Another replica may have deleted it.
            let message = stream.get_raw_message(message.sequence).await;
            if !matches!(
                message.map_err(|error| error.kind()),
                Err(LastRawMessageErrorKind::NoMessageFound)
            ) {
                return Err(error.into());
            }
        }
        failpoint::point("used-up.deleted", message);
    }
    Ok(())
}

/// Dead-letters a stored message; of a bundle, each part alone. The record of a good part
/// is redriven by its service, and a poison part does not hold the others.
async fn dead_letter_stored(
    client: &Client,
    jetstream: &jetstream::Context,
    consumer: &ConsumerSpec,
    message: &StreamMessage,
    reason: String,
) -> anyhow::Result<()> {
    let received = Received {
        subject: &message.subject,
        headers: Some(&message.headers),
        payload: &message.payload,
        place: message_place(consumer.stream, message.sequence, message.time),
        number: consumer.max_deliver,
        begun: SystemTime::now(),
    };
    let parts = received.parts(consumer.bundle).unwrap_or_else(|_| vec![received.whole()]);
    let max_payload = client.server_info().max_payload;
    let letters: Vec<_> =
        parts.iter().map(|part| dead_letter(consumer, part, &reason, max_payload)).collect();
    if let Err(missing) = publish_all(jetstream, &letters).await {
        return Err(UnstoredError { letters, reason: missing.reason }.into());
    }
    for part in &parts {
        part.ended(consumer, Some(reason.clone()));
    }
    Ok(())
}
