//! Publishing into a stream. A message counts as published when its PubAck is
//! here, not before.

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{self, context::PublishError, message::PublishMessage, publish::PublishAck},
};
use futures::{StreamExt, stream};
use tokio_util::bytes::Bytes;

use crate::{crash, trace::Trace};

/// Messages sent at once that wait for their PubAcks.
const IN_FLIGHT: usize = 512;

/// One message on its way into a stream.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub subject: String,
    /// Under this id the stream takes it once within its duplicate window.
    pub message_id: String,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// Further headers.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Bytes,
}

impl Outgoing {
    fn message(&self) -> PublishMessage {
        let mut headers = self.headers.clone();
        headers.insert(NATS_MESSAGE_ID, self.message_id.as_str());
        self.trace.write_to(&mut headers);
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
    let written = messages.iter().map(|it| (it.subject.clone(), it.message()));
    stream::iter(written.collect::<Vec<_>>())
        .map(|(subject, message)| async {
            let acknowledged = jetstream.send_publish(subject, message).await?;
            if let Some(armed) = crash::armed("publish.sent", &messages) {
                // Stored, and nobody here knows it. A flush would not do: what the server has
                // not read yet can be lost with the connection.
                let _ = acknowledged.await;
                armed.crash();
            }
            acknowledged.await
        })
        .buffered(IN_FLIGHT)
        .collect()
        .await
}

/// What got no PubAck.
#[derive(Debug)]
pub struct Unacknowledged {
    /// Positions in the slice that was to be published, in order.
    pub positions: Vec<usize>,
    /// Why the last of them got none.
    pub reason: String,
}
