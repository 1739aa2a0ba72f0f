//! Messages that reached `max_deliver`, because their workers crashed or stopped
//! before settling them. The server does not redeliver such a message again. It keeps
//! the message in the stream and publishes an advisory, which another stream
//! captures. This handler dead-letters the message and deletes it from its work queue.

use std::time::SystemTime;

use anyhow::{Context, anyhow};
use async_nats::{
    Client,
    header::NATS_MESSAGE_ID,
    jetstream::{self, message::StreamMessage, stream::LastRawMessageErrorKind},
};
use contract::{ConsumerSpec, Retention, StreamSpec, dead_letter::message_place};
use serde::Deserialize;
use time::OffsetDateTime;

use super::{Delivery, Failure, Handler, Verdict, dead_letter::DeadLetter};
use crate::{
    failpoint,
    nats::publish::publish_all,
    telemetry::trace::{Processed, Trace},
};

/// Handles the advisories about a service's consumers.
#[derive(Debug)]
pub struct MaxDeliveries {
    /// Provides the server's maximum payload.
    pub client: Client,
    /// Reads, publishes and deletes messages.
    pub jetstream: jetstream::Context,
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

impl Handler for MaxDeliveries {
    async fn process(&self, batch: &[Delivery]) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for delivery in batch {
            verdicts.push(match serde_json::from_slice(&delivery.payload) {
                Ok(advisory) => self.handle(&advisory).await.map_err(Failure::Transient)?,
                Err(error) => Verdict::DeadLetter(format!("not an advisory: {error}")),
            });
        }
        Ok(verdicts)
    }
}

impl MaxDeliveries {
    async fn handle(&self, advisory: &Advisory) -> anyhow::Result<Verdict> {
        let Some(consumer) = ConsumerSpec::named(&advisory.consumer) else {
            return Ok(Verdict::DeadLetter(format!(
                "the contract has no consumer {}",
                advisory.consumer
            )));
        };
        let spec = StreamSpec::named(consumer.stream).context("the contract has no such stream")?;
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
        dead_letter_stored(&self.client, &self.jetstream, consumer, &message, &reason).await?;
        Ok(Verdict::Done(None))
    }
}

/// Dead-letters a stored message and deletes it from its work queue. The order is
/// dead letter, PubAck, deletion. After a crash in between, all of it is repeated.
pub(super) async fn dead_letter_stored(
    client: &Client,
    jetstream: &jetstream::Context,
    consumer: &ConsumerSpec,
    message: &StreamMessage,
    reason: &str,
) -> anyhow::Result<()> {
    let (begun, trace) = (SystemTime::now(), Trace::of_message(Some(&message.headers)));
    let spec = StreamSpec::named(consumer.stream).context("the contract has no such stream")?;
    let dead = DeadLetter {
        consumer,
        place: message_place(spec.name, message.sequence, message.time),
        subject: &message.subject,
        trace,
        headers: Some(&message.headers),
        payload: &message.payload,
    };
    let letter = dead.message(reason, client.server_info().max_payload);
    publish_all(jetstream, &[letter]).await.map_err(|missing| anyhow!(missing.reason))?;
    trace.processed(Processed {
        begun,
        consumer: consumer.name,
        subject: &message.subject,
        message_id: message.headers.get(NATS_MESSAGE_ID).map_or("", |id| id.as_str()),
        delivered: consumer.max_deliver,
        error: Some(reason.to_owned()),
    });
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
