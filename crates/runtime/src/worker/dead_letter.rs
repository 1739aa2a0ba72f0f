//! A message that can't be processed, as it came, with its reason and where it
//! comes from in the headers.

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID};
use contract::{ConsumerSpec, subjects::DEAD_LETTER_PREFIX};
use tokio_util::bytes::Bytes;

use crate::{publish::Outgoing, trace::Trace};

/// What a dead letter's headers may take beside its body.
const HEADER_ROOM: usize = 8 * 1024;

/// A message that nobody can do anything with.
#[derive(Debug)]
pub(super) struct DeadLetter<'a> {
    /// Whose it was.
    pub(super) consumer: &'a ConsumerSpec,
    /// Its place in the stream, which no other message has.
    pub(super) place: String,
    /// Where it was published.
    pub(super) subject: &'a str,
    /// Where it was given up.
    pub(super) trace: Trace,
    /// Its headers.
    pub(super) headers: Option<&'a HeaderMap>,
    /// Its body.
    pub(super) payload: &'a Bytes,
}

impl DeadLetter<'_> {
    /// Logs it, counts it, and gives the message to be published. `largest` is
    /// what the server takes.
    pub(super) fn because(self, reason: &str, largest: usize) -> Outgoing {
        let (consumer, place) = (self.consumer, self.place);
        self.trace.log_span().in_scope(|| {
            tracing::error!(consumer = consumer.name, reason, message = place, "dead letter");
        });
        metrics::counter!("passbook_dead_letters_total", "consumer" => consumer.name).increment(1);
        let mut headers = HeaderMap::new();
        let one_line: String =
            reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
        headers.insert("Passbook-Reason", one_line);
        headers.insert("Passbook-Subject", self.subject);
        headers.insert("Passbook-Message", place.as_str());
        if let Some(id) = self.headers.and_then(|it| it.get(NATS_MESSAGE_ID)) {
            headers.insert("Passbook-Message-Id", id.as_str());
        }
        // With our headers a message of the largest size would be larger than that.
        let most = largest.saturating_sub(HEADER_ROOM);
        let payload = self.payload.slice(..self.payload.len().min(most));
        if payload.len() < self.payload.len() {
            headers.insert("Passbook-Truncated-From", self.payload.len().to_string());
        }
        Outgoing {
            subject: format!("{DEAD_LETTER_PREFIX}.{}.{}", consumer.stream, consumer.name),
            message_id: place,
            trace: self.trace,
            again_for: None,
            headers,
            payload,
        }
    }
}
