//! Publishing into a stream. A message counts as published when its PubAck is
//! here, not before.

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{self, message::PublishMessage},
};
use futures::{StreamExt, stream};
use tokio_util::bytes::Bytes;

use crate::trace::Trace;

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

/// Publishes all, many in flight at once, and waits for every PubAck. Returns
/// the positions of those that got none (they may be stored all the same) and
/// the first reason.
pub async fn publish_all(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
) -> Result<(), Unacknowledged> {
    let sent = stream::iter(messages.iter().enumerate())
        .then(|(at, message)| async move {
            (at, jetstream.send_publish(message.subject.clone(), message.message()).await)
        })
        .collect::<Vec<_>>()
        .await;
    let mut missing = Unacknowledged { positions: Vec::new(), reason: String::new() };
    for (at, acknowledgement) in sent {
        let result = match acknowledgement {
            Ok(acknowledgement) => acknowledgement.await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            missing.positions.push(at);
            missing.reason = error.to_string();
        }
    }
    if missing.positions.is_empty() { Ok(()) } else { Err(missing) }
}

/// What got no PubAck.
#[derive(Debug)]
pub struct Unacknowledged {
    /// Positions in the slice that was to be published, in order.
    pub positions: Vec<usize>,
    /// Why the last of them did not.
    pub reason: String,
}
