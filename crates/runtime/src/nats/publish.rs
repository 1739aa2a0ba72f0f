//! Publishes into a stream. A message counts as published only after its PubAck
//! arrived.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
        message::PublishMessage,
        publish::PublishAck,
    },
};
use tokio::time::{Instant, timeout_at};
use tokio_util::bytes::Bytes;

use crate::{
    failpoint,
    telemetry::trace::{Published, Trace},
};

/// Maximum messages in flight: sent, without a PubAck yet.
const IN_FLIGHT: usize = 512;
/// Time limit for a PubAck, counted from the sending of its message.
const PUB_ACK_LIMIT: Duration = Duration::from_secs(5);

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub subject: String,
    /// The `Nats-Msg-Id`. The stream stores one message per id within its duplicate
    /// window.
    pub message_id: String,
    /// The parent of the publish span.
    pub trace: Trace,
    /// For a redrive: the original request, which the publish span links to.
    pub redrive_of: Option<Trace>,
    /// Additional headers.
    pub headers: HeaderMap,
    pub payload: Bytes,
}

impl Outgoing {
    /// The message, with `sender` as its trace context.
    fn message(&self, sender: &Trace) -> PublishMessage {
        let mut headers = self.headers.clone();
        headers.insert(NATS_MESSAGE_ID, self.message_id.as_str());
        sender.write_to(&mut headers);
        PublishMessage::build().payload(self.payload.clone()).headers(headers)
    }
}

/// Publishes all messages, many in flight at once, and awaits every PubAck for up
/// to five seconds each.
///
/// # Errors
/// The messages without a PubAck. They may still be stored.
pub async fn publish_all(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
) -> Result<(), Unacknowledged> {
    failpoint::point("publish.begun", &messages);
    if let (half @ [_, ..], _) = messages.split_at(messages.len() / 2)
        && let Some(armed) = failpoint::armed("publish.half", &messages)
    {
        let _ = send_all(jetstream, half).await;
        armed.crash();
    }
    let outcomes = send_all(jetstream, messages).await;
    let mut missing = Unacknowledged { positions: Vec::new(), reason: String::new() };
    for (at, outcome) in outcomes.into_iter().enumerate() {
        if let Err(error) = outcome {
            missing.positions.push(at);
            missing.reason = error.to_string();
        }
    }
    if !missing.positions.is_empty() {
        return Err(missing);
    }
    failpoint::point("publish.acknowledged", &messages);
    Ok(())
}

/// Returns each message's PubAck or error, in their order.
async fn send_all(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
) -> Vec<Result<PublishAck, PublishError>> {
    let mut outcomes = Vec::with_capacity(messages.len());
    // The oldest PubAck is awaited first: by then most of the others have arrived.
    let mut in_flight = VecDeque::with_capacity(messages.len().min(IN_FLIGHT));
    for message in messages {
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            outcomes.push(acknowledged(oldest).await);
        }
        let recorded = message.trace.is_recorded();
        let span = recorded.then(|| (message.trace.child(), SystemTime::now(), message));
        let sender = span.as_ref().map_or(&message.trace, |(place, ..)| place);
        let sent = jetstream.send_publish(message.subject.clone(), message.message(sender)).await;
        in_flight.push_back(Sent { sent, latest: Instant::now() + PUB_ACK_LIMIT, span });
    }
    let armed = failpoint::armed("publish.sent", &messages);
    for sent in in_flight {
        outcomes.push(acknowledged(sent).await);
    }
    // Crash with all messages stored, before their PubAcks are used. A flush instead of the PubAcks
    // would not do: messages that the server has not read yet are lost with the connection.
    if let Some(armed) = armed {
        armed.crash();
    }
    outcomes
}

/// A message in flight.
struct Sent<'a> {
    sent: Result<PublishAckFuture, PublishError>,
    latest: Instant,
    /// The span to record: its place, its start and its message.
    span: Option<(Trace, SystemTime, &'a Outgoing)>,
}

async fn acknowledged(sent: Sent<'_>) -> Result<PublishAck, PublishError> {
    let outcome = match sent.sent {
        Ok(ack) => timeout_at(sent.latest, ack.into_future())
            .await
            .unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut))),
        Err(error) => Err(error),
    };
    if let Some((place, begun, message)) = sent.span {
        place.published(Published {
            begun,
            subject: &message.subject,
            message_id: &message.message_id,
            link: message.redrive_of,
            error: outcome.as_ref().err().map(ToString::to_string),
        });
    }
    outcome
}

/// The messages without a PubAck.
#[derive(Debug)]
pub struct Unacknowledged {
    /// Their positions in the published slice, ascending.
    pub positions: Vec<usize>,
    /// The error of the last of them.
    pub reason: String,
}
