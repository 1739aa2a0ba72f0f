//! One message as a handler sees it.

use std::time::SystemTime;

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
    /// Where it is processed.
    pub trace: Trace,
    /// Its body.
    pub payload: Bytes,
    /// The number of this delivery, from 1 on.
    pub(super) number: i64,
    /// When it came.
    pub(super) begun: SystemTime,
}

impl Delivery {
    pub(super) fn of(message: &jetstream::Message, begun: SystemTime) -> Self {
        let given = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
        Self {
            subject: message.subject.to_string(),
            message_id: given.map_or_else(|| place(message), |id| id.as_str().to_owned()),
            trace: Trace::of_message(message.headers.as_ref()),
            payload: message.payload.clone(),
            number: message.info().map_or(1, |info| info.delivered),
            begun,
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
