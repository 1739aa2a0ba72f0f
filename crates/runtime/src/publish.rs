//! Publishing into a stream. A message counts as published when its PubAck is
//! here, not before.

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
    crash,
    trace::{Published, Trace},
};

/// Messages sent at once that wait for their PubAcks.
const IN_FLIGHT: usize = 512;
/// The longest wait for a PubAck, from when its message was sent.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// One message on its way into a stream.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub subject: String,
    /// Under this id the stream takes it once within its duplicate window.
    pub message_id: String,
    /// Where it is sent from: the span of its publishing is below.
    pub trace: Trace,
    /// The request that it is sent again for.
    pub again_for: Option<Trace>,
    /// Further headers.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Bytes,
}

impl Outgoing {
    /// As it is sent by the span at this place.
    fn message(&self, sender: &Trace) -> PublishMessage {
        let mut headers = self.headers.clone();
        headers.insert(NATS_MESSAGE_ID, self.message_id.as_str());
        sender.write_to(&mut headers);
        PublishMessage::build().payload(self.payload.clone()).headers(headers)
    }
}

/// Publishes all, many in flight at once, and waits for every PubAck; each has
/// its own five seconds from the moment it was sent.
///
/// # Errors
/// Those that got none. They may be stored all the same.
pub async fn publish_all(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
) -> Result<(), Unacknowledged> {
    crash::point("publish.begun", &messages);
    if let (half @ [_, ..], _) = messages.split_at(messages.len() / 2)
        && let Some(armed) = crash::armed("publish.half", &messages)
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
    crash::point("publish.acknowledged", &messages);
    Ok(())
}

/// Gives each message's PubAck, or why there is none, in their order.
async fn send_all(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
) -> Vec<Result<PublishAck, PublishError>> {
    let mut outcomes = Vec::with_capacity(messages.len());
    // One at a time is waited for, the oldest: most of the others have come by then.
    let mut in_flight = VecDeque::with_capacity(messages.len().min(IN_FLIGHT));
    for message in messages {
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            outcomes.push(acknowledged(oldest).await);
        }
        let recorded = message.trace.is_recorded();
        let span = recorded.then(|| (message.trace.below(), SystemTime::now(), message));
        let sender = span.as_ref().map_or(&message.trace, |(place, ..)| place);
        let sent = jetstream.send_publish(message.subject.clone(), message.message(sender)).await;
        in_flight.push_back(Sent { sent, latest: Instant::now() + LONGEST_WAIT, span });
    }
    let armed = crash::armed("publish.sent", &messages);
    for sent in in_flight {
        outcomes.push(acknowledged(sent).await);
    }
    // Stored, and nobody here knows it. A flush would not do: what the server has not read yet
    // can be lost with the connection.
    if let Some(armed) = armed {
        armed.crash();
    }
    outcomes
}

/// A message that waits for its PubAck.
struct Sent<'a> {
    sent: Result<PublishAckFuture, PublishError>,
    latest: Instant,
    /// Where, since when and of what there is a span, if there is one.
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
            link: message.again_for,
            error: outcome.as_ref().err().map(ToString::to_string),
        });
    }
    outcome
}

/// What got no PubAck.
#[derive(Debug)]
pub struct Unacknowledged {
    /// Positions in the slice that was to be published, in order.
    pub positions: Vec<usize>,
    /// Why the last of them got none.
    pub reason: String,
}
