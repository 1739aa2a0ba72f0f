//! Writes a dead letter: the message unchanged, with its reason and origin in
//! the headers.

use async_nats::HeaderMap;
use contract::{ConsumerSpec, dead_letter};

use super::Delivery;
use crate::nats::outgoing::Outgoing;

/// Room for the headers beside the body, in bytes.
const HEADER_ROOM: usize = 8 * 1024;

/// Logs and counts the dead letter of a delivery that can't be processed, and returns
/// the message to publish. `max_payload` is the server's limit in bytes; a longer body
/// is truncated.
pub(super) fn dead_letter(
    consumer: &ConsumerSpec,
    delivery: &Delivery,
    reason: &str,
    max_payload: usize,
) -> Outgoing {
    let Delivery { place, trace, .. } = delivery;
    // It may quote the message.
    let reason = dead_letter::header_text(reason);
    trace.log_span().in_scope(|| {
        tracing::error!(
            consumer = consumer.name,
            reason,
            message = place,
            "dead-lettered a message"
        );
    });
    metrics::counter!("passbook_dead_letters_total", "consumer" => consumer.name).increment(1);
    let mut headers = HeaderMap::new();
    headers.insert(dead_letter::REASON, reason);
    headers.insert(dead_letter::SUBJECT, dead_letter::header_text(&delivery.subject));
    headers.insert(dead_letter::PLACE, place.as_str());
    if delivery.message_id != *place {
        headers.insert(dead_letter::MESSAGE_ID, delivery.message_id.as_str());
    }
    // With additional headers, a message of the maximum size would exceed the limit.
    let most = max_payload.saturating_sub(HEADER_ROOM);
    let payload = delivery.payload.slice(..delivery.payload.len().min(most));
    if payload.len() < delivery.payload.len() {
        headers.insert(dead_letter::TRUNCATED_FROM, delivery.payload.len().to_string());
    }
    Outgoing {
        subject: dead_letter::open_subject(consumer.stream, consumer.name),
        message_id: place.clone(),
        trace: *trace,
        redrive_of: None,
        headers,
        payload,
        sharing: None,
    }
}
