//! The messages to publish. Commands and results that are published together share messages.

use std::collections::HashMap;

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID, jetstream::message::PublishMessage};
use contract::{bundle::Bundle, dead_letter};
use tokio_util::bytes::Bytes;

use super::refusal::RefusalKind;
use crate::telemetry::trace::Trace;

/// Room for the headers of a bundle, in bytes.
pub(super) const HEADER_ROOM: usize = 256;
/// Room for the names, quotes and trace context of a part in a bundle, in bytes.
const PART_ROOM: usize = 128;

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
    /// Whether it may share a message with others; `None` if it travels alone.
    pub sharing: Option<Sharing>,
}

impl Outgoing {
    /// The message, with `sender` as its trace context. The body of a dead letter is truncated
    /// to `max_payload`, the server's limit for headers and body in bytes.
    pub(super) fn message(&self, sender: &Trace, max_payload: usize) -> PublishMessage {
        let mut headers = self.headers.clone();
        headers.insert(NATS_MESSAGE_ID, self.message_id.as_str());
        sender.write_to(&mut headers);
        let mut payload = self.payload.clone();
        if self.is_dead_letter() && wire_size(&headers) + payload.len() > max_payload {
            note_truncation(&mut headers, payload.len());
            payload.truncate(max_payload.saturating_sub(wire_size(&headers)));
        }
        PublishMessage::build().payload(payload).headers(headers)
    }

    fn is_dead_letter(&self) -> bool {
        self.headers.get(dead_letter::PLACE).is_some()
    }

    /// What to publish instead, after a refusal; `None` if nothing smaller would do.
    pub(super) fn smaller(&self, refused: RefusalKind) -> Option<Self> {
        if refused == RefusalKind::Permission {
            return None;
        }
        if self.sharing.is_some_and(|sharing| sharing.most > 1) {
            return Some(Self { sharing: None, ..self.clone() });
        }
        if refused != RefusalKind::Size || !self.is_dead_letter() || self.payload.is_empty() {
            return None;
        }
        let mut half = self.clone();
        note_truncation(&mut half.headers, self.payload.len());
        half.payload.truncate(self.payload.len() / 2);
        Some(half)
    }
}

/// The size of headers in a message, in bytes.
#[must_use]
pub fn wire_size(headers: &HeaderMap) -> usize {
    let lines = headers.iter().map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(|value| name.len() + value.as_str().len() + ": \r\n".len()).sum::<usize>()
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

/// Notes the size of the whole body, unless it was truncated before.
pub fn note_truncation(headers: &mut HeaderMap, length: usize) {
    if headers.get(dead_letter::TRUNCATED_FROM).is_none() {
        headers.insert(dead_letter::TRUNCATED_FROM, length.to_string());
    }
}

/// How commands or results share messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// Commands or results.
    pub content: Bundle,
    /// Maximum parts of a message. With 1, each travels alone.
    pub most: u8,
}

/// The positions of the messages that share one, in the order of their first ones. A shared
/// message has at most `max_bytes`.
pub(super) fn groups(messages: &[Outgoing], max_bytes: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    // By subject: the group with room, and its size in bytes.
    let mut open: HashMap<&str, (usize, usize)> = HashMap::new();
    for (at, message) in messages.iter().enumerate() {
        let Some(sharing) = message.sharing.filter(|sharing| sharing.most > 1) else {
            groups.push(vec![at]);
            continue;
        };
        let size = message.payload.len() + message.message_id.len() + PART_ROOM;
        if let Some((index, used)) = open.get_mut(message.subject.as_str())
            && let Some(group) = groups.get_mut(*index)
            && group.len() < usize::from(sharing.most)
            && *used + size <= max_bytes
        {
            group.push(at);
            *used += size;
        } else {
            open.insert(&message.subject, (groups.len(), size));
            groups.push(vec![at]);
        }
    }
    groups
}

/// The id of a bundle: a digest of the ids of its parts. A bundle that is published again
/// has the same id. Another composition has another id.
fn bundle_id<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for id in parts {
        digest.update(id.as_bytes());
        digest.update(b"\n");
    }
    let digest = digest.finish();
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The message of several parts.
pub(super) fn bundle<'a>(
    parts: &[&'a Outgoing],
    sender: &mut impl FnMut(&'a Outgoing) -> Trace,
) -> PublishMessage {
    let content = parts.first().and_then(|first| first.sharing).map(|sharing| sharing.content);
    let mut writer = content.unwrap_or(Bundle::Commands).writer();
    for part in parts {
        writer.add(&part.message_id, &sender(part).traceparent(), &part.payload);
    }
    let mut headers = HeaderMap::new();
    let id = bundle_id(parts.iter().map(|part| part.message_id.as_str()));
    headers.insert(NATS_MESSAGE_ID, id.as_str());
    PublishMessage::build().payload(Bytes::from(writer.finish())).headers(headers)
}

#[cfg(test)]
mod tests {
    use contract::bundle::MAX_BYTES;

    use super::*;

    fn outgoing(subject: &str, size: usize, most: Option<u8>) -> Outgoing {
        Outgoing {
            subject: subject.to_owned(),
            message_id: "id".to_owned(),
            trace: Trace::begin(),
            redrive_of: None,
            headers: HeaderMap::new(),
            payload: vec![b'x'; size].into(),
            sharing: most.map(|most| Sharing { content: Bundle::Commands, most }),
        }
    }

    #[test]
    fn messages_of_a_subject_share_one_within_the_bounds() {
        let small = |subject, most| outgoing(subject, 200, most);
        let messages = [
            small("a", Some(3)),
            small("b", Some(3)),
            small("a", Some(3)),
            small("a", None),
            small("a", Some(3)),
            small("a", Some(3)),
            small("b", Some(1)),
        ];
        let expected: [&[usize]; 5] = [&[0, 2, 4], &[1], &[3], &[5], &[6]];
        assert_eq!(groups(&messages, MAX_BYTES), expected);
        let large = [MAX_BYTES / 2, MAX_BYTES / 2, 200, 2 * MAX_BYTES]
            .map(|size| outgoing("a", size, Some(100)));
        let expected: [&[usize]; 3] = [&[0], &[1, 2], &[3]];
        assert_eq!(groups(&large, MAX_BYTES), expected);
    }

    #[test]
    fn a_dead_letter_fits_whatever_its_headers_and_another_message_stays_whole() {
        let mut letter = outgoing("dead-letter.A.b", 5000, None);
        letter.headers.insert(dead_letter::REASON, "é".repeat(1000));
        letter.headers.insert(dead_letter::PLACE, "A.1.2");
        // From the size without the note of the truncation, to less than the headers.
        for max_payload in [7300, 7210, 7200, 7190, 4096, 10] {
            let mut headers = letter.headers.clone();
            headers.insert(NATS_MESSAGE_ID, "id");
            letter.trace.write_to(&mut headers);
            let whole = wire_size(&headers) + 5000 <= max_payload;
            let message = letter.message(&letter.trace, max_payload).outbound_message("a");
            let headers = message.headers.unwrap();
            assert_eq!(headers.get(dead_letter::TRUNCATED_FROM).is_none(), whole);
            assert_eq!(message.payload.len() == 5000, whole, "{max_payload}");
            let size = wire_size(&headers) + message.payload.len();
            assert!(size <= max_payload.max(wire_size(&headers)), "{size} of {max_payload}");
        }
        let command = outgoing("a", 5000, None);
        let message = command.message(&command.trace, 10).outbound_message("a");
        assert_eq!(message.payload.len(), 5000);
    }

    #[test]
    fn a_refused_message_is_published_in_smaller_forms_until_there_is_none() {
        let shared = outgoing("a", 200, Some(100));
        let alone = shared.smaller(RefusalKind::Other).unwrap();
        assert_eq!(alone.sharing, None);
        assert!(alone.smaller(RefusalKind::Size).is_none());
        assert!(shared.smaller(RefusalKind::Permission).is_none());
        let mut letter = outgoing("dead-letter.A.b", 1000, None);
        letter.headers.insert(dead_letter::PLACE, "A.1.2");
        assert!(letter.smaller(RefusalKind::Other).is_none());
        let mut sizes = Vec::new();
        while let Some(half) = letter.smaller(RefusalKind::Size) {
            sizes.push(half.payload.len());
            letter = half;
        }
        assert_eq!(sizes, [500, 250, 125, 62, 31, 15, 7, 3, 1, 0]);
        let length = letter.headers.get(dead_letter::TRUNCATED_FROM).unwrap();
        assert_eq!(length.as_str(), "1000");
    }

    #[test]
    fn the_id_of_a_bundle_depends_on_each_of_its_parts() {
        let id = |ids: &[&str]| bundle_id(ids.iter().copied());
        assert_eq!(id(&["a", "b"]), id(&["a", "b"]));
        assert_eq!(id(&["a", "b"]).len(), 32);
        for other in [&["b", "a"][..], &["a"], &["a", "b", "c"], &["ab"]] {
            assert_ne!(id(&["a", "b"]), id(other), "{other:?}");
        }
    }
}
