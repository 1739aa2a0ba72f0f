//! Publishes into a stream. A message counts as published only after its PubAck
//! arrived. Commands and results that are published together share messages.
//!
//! A message that the broker refuses for good is isolated: the parts of a bundle are published
//! alone, and the body of a dead letter is truncated. What is refused even then is reported to
//! the caller as [`Refusal`], so that it is not published again and again.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, SystemTime},
};

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use contract::{
    bundle::{Bundle, MAX_BYTES},
    dead_letter,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::bytes::Bytes;

use super::refusal::{self, Refusal, RefusalKind};
use crate::{
    failpoint,
    telemetry::{
        metrics::count,
        trace::{Published, Trace},
    },
};

/// Room for the headers of a bundle, in bytes.
const HEADER_ROOM: usize = 256;
/// Room for the names, quotes and trace context of a part in a bundle, in bytes.
const PART_ROOM: usize = 128;
/// Maximum messages in flight: sent, without a PubAck yet.
const IN_FLIGHT: usize = 512;
/// Time limit for a PubAck, counted from the sending of its message.
const PUB_ACK_LIMIT: Duration = Duration::from_secs(5);

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
    fn message(&self, sender: &Trace, max_payload: usize) -> PublishMessage {
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
    fn smaller(&self, refused: RefusalKind) -> Option<Self> {
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

/// Publishes all messages, many in flight at once, and awaits every PubAck for up
/// to five seconds each. Those that may share a message are published as bundles. A
/// single one is never delayed.
///
/// # Errors
/// The messages without a PubAck. They may still be stored, except the refused ones.
pub async fn publish_all(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
) -> Result<(), Unacknowledged> {
    failpoint::point("publish.begun", &messages);
    if let (half @ [_, ..], _) = messages.split_at(messages.len() / 2)
        && let Some(armed) = failpoint::armed("publish.half", &messages)
    {
        let _ = send_all(jetstream, half).await;
        armed.crash();
    }
    let mut outcomes = send_all(jetstream, messages).await;
    isolate(jetstream, messages, &mut outcomes).await;
    let mut missing = Unacknowledged::default();
    for (at, outcome) in outcomes.into_iter().enumerate() {
        let Err(error) = outcome else { continue };
        missing.positions.push(at);
        missing.reason = error.to_string();
        if let Failed::Refused(refusal) = error {
            missing.refused.insert(at, refusal);
        }
    }
    missing.report(messages);
    if !missing.positions.is_empty() {
        return Err(missing);
    }
    failpoint::point("publish.acknowledged", &messages);
    Ok(())
}

/// Why a message has no PubAck.
#[derive(Debug, Clone, thiserror::Error)]
enum Failed {
    /// It can succeed later, and may be stored.
    #[error("{0}")]
    Unknown(String),
    #[error(transparent)]
    Refused(Refusal),
}

/// One bad part of a message must not hold up the others: publishes refused messages in smaller
/// forms, as long as there is one.
async fn isolate(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
    outcomes: &mut [Result<(), Failed>],
) {
    let smaller = |message: &Outgoing, outcome: &Result<(), Failed>| match outcome {
        Err(Failed::Refused(refusal)) => message.smaller(refusal.kind),
        _ => None,
    };
    let first =
        messages.iter().zip(outcomes.iter()).map(|(message, outcome)| smaller(message, outcome));
    let (mut positions, mut open): (Vec<_>, Vec<_>) =
        first.enumerate().filter_map(|(at, message)| Some((at, message?))).unzip();
    while !open.is_empty() {
        let results = send_all(jetstream, &open).await;
        let tried = positions.into_iter().zip(open).zip(results);
        (positions, open) = (Vec::new(), Vec::new());
        for ((at, message), result) in tried {
            if let Some(next) = smaller(&message, &result) {
                positions.push(at);
                open.push(next);
            }
            if let Some(outcome) = outcomes.get_mut(at) {
                *outcome = result;
            }
        }
    }
}

/// Returns the outcome of each message, in their order: its PubAck, or an error.
async fn send_all(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
) -> Vec<Result<(), Failed>> {
    let max_payload = jetstream.client().max_payload();
    let mut outcomes = vec![Ok(()); messages.len()];
    let mut end = |(positions, outcome): (Vec<usize>, Result<(), Failed>)| {
        let Err(error) = outcome else { return };
        for at in positions {
            if let Some(outcome) = outcomes.get_mut(at) {
                *outcome = Err(error.clone());
            }
        }
    };
    // The oldest PubAck is awaited first: by then most of the others have arrived.
    let mut in_flight = VecDeque::with_capacity(messages.len().min(IN_FLIGHT));
    for positions in groups(messages, MAX_BYTES.min(max_payload.saturating_sub(HEADER_ROOM))) {
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            end(acknowledged(oldest).await);
        }
        in_flight.push_back(Sent::send(jetstream, messages, positions, max_payload).await);
    }
    let armed = failpoint::armed("publish.sent", &messages);
    for sent in in_flight {
        end(acknowledged(sent).await);
    }
    // Crash with all messages stored, before their PubAcks are used. A flush instead of the PubAcks
    // would not do: messages that the server has not read yet are lost with the connection.
    if let Some(armed) = armed {
        armed.crash();
    }
    outcomes
}

/// The positions of the messages that share one, in the order of their first ones. A shared
/// message has at most `max_bytes`.
fn groups(messages: &[Outgoing], max_bytes: usize) -> Vec<Vec<usize>> {
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

/// A message in flight.
struct Sent<'a> {
    /// The positions of its parts.
    positions: Vec<usize>,
    subject: &'a str,
    sent: Result<PublishAckFuture, PublishError>,
    since: Instant,
    begun: SystemTime,
    /// The spans to record: the place of each, and its part.
    spans: Vec<(Trace, &'a Outgoing)>,
}

impl<'a> Sent<'a> {
    async fn send(
        jetstream: &jetstream::Context,
        messages: &'a [Outgoing],
        positions: Vec<usize>,
        max_payload: usize,
    ) -> Self {
        let mut spans = Vec::new();
        let mut sender = |message: &'a Outgoing| {
            if !message.trace.is_recorded() {
                return message.trace;
            }
            let place = message.trace.child();
            spans.push((place, message));
            place
        };
        let begun = SystemTime::now();
        let parts: Vec<_> = positions.iter().filter_map(|at| messages.get(*at)).collect();
        let message = match *parts.as_slice() {
            [single] => single.message(&sender(single), max_payload),
            ref parts => bundle(parts, &mut sender),
        };
        let subject = parts.first().map_or("", |first| first.subject.as_str());
        let since = Instant::now();
        let sent = jetstream.send_publish(subject.to_owned(), message).await;
        Self { positions, subject, sent, since, begun, spans }
    }
}

/// The message of several parts.
fn bundle<'a>(
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

/// Awaits the PubAck. Returns the positions of the parts, and the outcome.
async fn acknowledged(sent: Sent<'_>) -> (Vec<usize>, Result<(), Failed>) {
    let outcome = match sent.sent {
        Ok(ack) => pub_ack(ack, sent.subject, sent.since).await,
        Err(error) => Err(failed(&error)),
    };
    for (place, message) in sent.spans {
        place.published(Published {
            begun: sent.begun,
            subject: &message.subject,
            message_id: &message.message_id,
            link: message.redrive_of,
            error: outcome.as_ref().err().map(ToString::to_string),
        });
    }
    (sent.positions, outcome)
}

async fn pub_ack(ack: PublishAckFuture, subject: &str, since: Instant) -> Result<(), Failed> {
    tokio::select! {
        // Polled first: the other one matters only while there is no PubAck.
        biased;
        acked = timeout_at(since + PUB_ACK_LIMIT, ack.into_future()) => match acked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&PublishError::new(PublishErrorKind::TimedOut))),
        },
        // Without permission, the server answers on the connection and sends no PubAck.
        () = refusal::permission_missing(subject, since) => {
            Err(Failed::Refused(Refusal::permission(subject)))
        }
    }
}

fn failed(error: &PublishError) -> Failed {
    Refusal::of(error).map_or_else(|| Failed::Unknown(error.to_string()), Failed::Refused)
}

/// The messages without a PubAck.
#[derive(Debug, Default, thiserror::Error)]
#[error("{reason}")]
pub struct Unacknowledged {
    /// Their positions in the published slice, ascending.
    pub positions: Vec<usize>,
    /// Those that the broker refuses for good. To publish them again would not help.
    pub refused: BTreeMap<usize, Refusal>,
    /// The error of the last of them.
    pub reason: String,
}

impl Unacknowledged {
    /// Whether to publish the message at this position again.
    #[must_use]
    pub fn is_retryable(&self, position: usize) -> bool {
        self.positions.binary_search(&position).is_ok() && !self.refused.contains_key(&position)
    }

    /// Counts and logs the refused messages.
    fn report(&self, messages: &[Outgoing]) {
        for refusal in self.refused.values() {
            refusal.kind.count(1);
        }
        if let Some((at, refusal)) = self.refused.last_key_value() {
            tracing::error!(
                messages = count(self.refused.len()),
                subject = messages.get(*at).map(|message| message.subject.as_str()),
                kind = refusal.kind.as_str(),
                reason = refusal.reason,
                "the broker refuses messages for good"
            );
        }
    }
}

#[cfg(test)]
mod tests {
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
