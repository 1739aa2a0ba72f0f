//! One delivery of a message, as a handler sees it.

use std::time::SystemTime;

use async_nats::{header::NATS_MESSAGE_ID, jetstream};
use contract::dead_letter::message_place;
use tokio_util::bytes::Bytes;

use crate::telemetry::trace::Trace;

/// One delivery of a message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The subject of the message.
    pub subject: String,
    /// The `Nats-Msg-Id`; without one, the message's place in the stream.
    pub message_id: String,
    /// The span of processing the message.
    pub trace: Trace,
    pub payload: Bytes,
    /// The delivery count: 1 for the first.
    pub(super) number: i64,
    /// The time of the fetch.
    pub(super) begun: SystemTime,
}

impl Delivery {
    pub(super) fn new(message: &jetstream::Message, begun: SystemTime) -> Self {
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

/// The message's unique place; see [`message_place`].
pub(super) fn place(message: &jetstream::Message) -> String {
    message.info().map_or_else(
        |_| message.reply.as_ref().map_or_else(String::new, ToString::to_string),
        |info| message_place(info.stream, info.stream_sequence, info.published),
    )
}
