//! Writes a dead letter: the message unchanged, with its reason and origin in
//! the headers.

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID};
use contract::{ConsumerSpec, dead_letter};
use tokio_util::bytes::Bytes;

use crate::{nats::publish::Outgoing, telemetry::trace::Trace};

/// Room for the headers beside the body, in bytes.
const HEADER_ROOM: usize = 8 * 1024;

/// A message that can't be processed.
#[derive(Debug)]
pub(super) struct DeadLetter<'a> {
    /// The consumer of the failed delivery.
    pub(super) consumer: &'a ConsumerSpec,
    /// The message's [`dead_letter::message_place`].
    pub(super) place: String,
    /// The subject of the message.
    pub(super) subject: &'a str,
    /// The span of processing the message.
    pub(super) trace: Trace,
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) payload: &'a Bytes,
}

impl DeadLetter<'_> {
    /// Logs and counts the dead letter, and returns the message to publish.
    /// `max_payload` is the server's limit in bytes; a longer body is truncated.
    pub(super) fn message(self, reason: &str, max_payload: usize) -> Outgoing {
        let (consumer, place) = (self.consumer, self.place);
        self.trace.log_span().in_scope(|| {
            tracing::error!(
                consumer = consumer.name,
                reason,
                message = place,
                "dead-lettered a message"
            );
        });
        metrics::counter!("passbook_dead_letters_total", "consumer" => consumer.name).increment(1);
        let mut headers = HeaderMap::new();
        headers.insert(dead_letter::REASON, dead_letter::header_text(reason));
        headers.insert(dead_letter::SUBJECT, self.subject);
        headers.insert(dead_letter::PLACE, place.as_str());
        if let Some(id) = self.headers.and_then(|headers| headers.get(NATS_MESSAGE_ID)) {
            headers.insert(dead_letter::MESSAGE_ID, id.as_str());
        }
        // With additional headers, a message of the maximum size would exceed the limit.
        let most = max_payload.saturating_sub(HEADER_ROOM);
        let payload = self.payload.slice(..self.payload.len().min(most));
        if payload.len() < self.payload.len() {
            headers.insert(dead_letter::TRUNCATED_FROM, self.payload.len().to_string());
        }
        Outgoing {
            subject: dead_letter::open_subject(consumer.stream, consumer.name),
            message_id: place,
            trace: self.trace,
            redrive_of: None,
            headers,
            payload,
        }
    }
}
