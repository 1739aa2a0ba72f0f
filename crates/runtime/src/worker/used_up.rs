//! Messages whose deliveries are used up: their workers crashed each time, or
//! were stopped. The server delivers them no more and keeps them, and only says
//! so in an advisory. A stream captures the advisories; this handler makes each
//! such message a dead letter and takes it out of its work queue.

use std::time::SystemTime;

use anyhow::{Context, anyhow};
use async_nats::{
    Client,
    header::NATS_MESSAGE_ID,
    jetstream::{self, message::StreamMessage, stream::LastRawMessageErrorKind},
};
use contract::{ConsumerSpec, Retention, StreamSpec};
use serde::Deserialize;
use time::OffsetDateTime;

use super::{Delivery, Failure, Handler, Verdict, dead_letter::DeadLetter};
use crate::{
    crash,
    publish::publish_all,
    trace::{Processed, Trace},
};

/// Works off the advisories of a service's consumers.
#[derive(Debug)]
pub struct UsedUp {
    /// To see how large a message may be.
    pub client: Client,
    /// The streams.
    pub jetstream: jetstream::Context,
}

/// What the server says (`io.nats.jetstream.advisory.v1.max_deliver`).
#[derive(Debug, Deserialize)]
struct Advisory {
    consumer: String,
    stream_seq: u64,
    deliveries: u64,
    /// When the server gave the message up.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

impl Handler for UsedUp {
    async fn process(&self, batch: &[Delivery]) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for delivery in batch {
            verdicts.push(match serde_json::from_slice(&delivery.payload) {
                Ok(advisory) => self.work_off(&advisory).await.map_err(Failure::Transient)?,
                Err(error) => Verdict::DeadLetter(format!("not an advisory: {error}")),
            });
        }
        Ok(verdicts)
    }
}

impl UsedUp {
    async fn work_off(&self, advisory: &Advisory) -> anyhow::Result<Verdict> {
        let Some(consumer) = ConsumerSpec::named(&advisory.consumer) else {
            return Ok(Verdict::DeadLetter(format!("no consumer {} of ours", advisory.consumer)));
        };
        let spec = StreamSpec::named(consumer.stream).context("a stream of the contract")?;
        let stream = self.jetstream.get_stream_no_info(spec.name).await?;
        let message = match stream.get_raw_message(advisory.stream_seq).await {
            Ok(message) => message,
            // Worked off before, or acked late after all.
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok(Verdict::Done(None));
            }
            Err(error) => return Err(error.into()),
        };
        if message.time > advisory.timestamp {
            // The stream was made anew and counts from one again: this is another message.
            return Ok(Verdict::Done(None));
        }
        let reason = format!("delivered {} times and never settled", advisory.deliveries);
        bury(&self.client, &self.jetstream, consumer, &message, &reason).await?;
        Ok(Verdict::Done(None))
    }
}

/// Makes a message a dead letter and takes it out of its work queue. In this
/// order, so that a crash in between only makes it happen again: the dead
/// letter, its PubAck, the deletion.
pub(super) async fn bury(
    client: &Client,
    jetstream: &jetstream::Context,
    consumer: &ConsumerSpec,
    message: &StreamMessage,
    reason: &str,
) -> anyhow::Result<()> {
    let (begun, trace) = (SystemTime::now(), Trace::of_message(Some(&message.headers)));
    let spec = StreamSpec::named(consumer.stream).context("a stream of the contract")?;
    let dead = DeadLetter {
        consumer,
        place: place(spec, message),
        subject: &message.subject,
        trace,
        headers: Some(&message.headers),
        payload: &message.payload,
    };
    let letter = dead.because(reason, client.server_info().max_payload);
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
            // Another replica may have been faster.
            let left = stream.get_raw_message(message.sequence).await.map_err(|it| it.kind());
            if !matches!(left, Err(LastRawMessageErrorKind::NoMessageFound)) {
                return Err(error.into());
            }
        }
        crash::point("used-up.deleted", message);
    }
    Ok(())
}

/// As a delivery of the message would name it.
fn place(stream: &StreamSpec, message: &StreamMessage) -> String {
    let stored = message.time.unix_timestamp_nanos();
    format!("{}.{}.{stored}", stream.name, message.sequence)
}
