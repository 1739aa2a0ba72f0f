//! One message as a handler sees it.

use async_nats::{header::NATS_MESSAGE_ID, jetstream};
use tokio_util::bytes::Bytes;

use crate::trace::Trace;

/// One delivery of a message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where it was published.
    pub subject: String,
    /// Its `Nats-Msg-Id`; if its writer gave none, one made from its place in
    /// the stream, which no other message there has.
    pub message_id: String,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// Its body.
    pub payload: Bytes,
}

impl Delivery {
    pub(super) fn of(message: &jetstream::Message) -> Self {
        let given = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
        Self {
            subject: message.subject.to_string(),
            message_id: given.map_or_else(|| place(message), |id| id.as_str().to_owned()),
            trace: Trace::of_message(message.headers.as_ref()),
            payload: message.payload.clone(),
        }
    }
}

/// The stream, the sequence and the time of storing: unique even if the stream
/// is made anew and counts from one again.
pub(super) fn place(message: &jetstream::Message) -> String {
    message.info().map_or_else(
        |_| message.reply.as_ref().map_or_else(String::new, ToString::to_string),
        |info| {
            let stored = info.published.unix_timestamp_nanos();
            format!("{}.{}.{stored}", info.stream, info.stream_sequence)
        },
    )
}
