//! Publishes into a stream. A message counts as published only after its PubAck
//! arrived. Commands and results that are published together share messages.

use std::{
    collections::{HashMap, VecDeque},
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
use contract::bundle::{Bundle, MAX_BYTES};
use tokio::time::{Instant, timeout_at};
use tokio_util::bytes::Bytes;

use crate::{
    failpoint,
    telemetry::trace::{Published, Trace},
};

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
    /// The message, with `sender` as its trace context.
    fn message(&self, sender: &Trace) -> PublishMessage {
        let mut headers = self.headers.clone();
        headers.insert(NATS_MESSAGE_ID, self.message_id.as_str());
        sender.write_to(&mut headers);
        PublishMessage::build().payload(self.payload.clone()).headers(headers)
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
/// The messages without a PubAck. They may still be stored.
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
    let outcomes = send_all(jetstream, messages).await;
    let mut missing = Unacknowledged { positions: Vec::new(), reason: String::new() };
    for (at, outcome) in outcomes.into_iter().enumerate() {
        if let Err(error) = outcome {
            missing.positions.push(at);
            missing.reason = error;
        }
    }
    if !missing.positions.is_empty() {
        return Err(missing);
    }
    failpoint::point("publish.acknowledged", &messages);
    Ok(())
}

/// Returns the outcome of each message, in their order: its PubAck, or an error.
async fn send_all(
    jetstream: &jetstream::Context,
    messages: &[Outgoing],
) -> Vec<Result<(), String>> {
    let mut outcomes = vec![Ok(()); messages.len()];
    let mut end = |(positions, outcome): (Vec<usize>, Result<(), String>)| {
        let Err(error) = outcome else { return };
        for at in positions {
            if let Some(outcome) = outcomes.get_mut(at) {
                *outcome = Err(error.clone());
            }
        }
    };
    // The oldest PubAck is awaited first: by then most of the others have arrived.
    let mut in_flight = VecDeque::with_capacity(messages.len().min(IN_FLIGHT));
    for positions in groups(messages) {
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            end(acknowledged(oldest).await);
        }
        in_flight.push_back(Sent::send(jetstream, messages, positions).await);
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

/// The positions of the messages that share one, in the order of their first ones.
fn groups(messages: &[Outgoing]) -> Vec<Vec<usize>> {
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
            && *used + size <= MAX_BYTES
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
    sent: Result<PublishAckFuture, PublishError>,
    latest: Instant,
    begun: SystemTime,
    /// The spans to record: the place of each, and its part.
    spans: Vec<(Trace, &'a Outgoing)>,
}

impl<'a> Sent<'a> {
    async fn send(
        jetstream: &jetstream::Context,
        messages: &'a [Outgoing],
        positions: Vec<usize>,
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
        let (subject, message) = match *parts.as_slice() {
            [single] => (single.subject.clone(), single.message(&sender(single))),
            ref parts => bundle(parts, &mut sender),
        };
        let sent = jetstream.send_publish(subject, message).await;
        Self { positions, sent, latest: Instant::now() + PUB_ACK_LIMIT, begun, spans }
    }
}

/// The message of several parts, and its subject.
fn bundle<'a>(
    parts: &[&'a Outgoing],
    sender: &mut impl FnMut(&'a Outgoing) -> Trace,
) -> (String, PublishMessage) {
    let first = parts.first();
    let subject = first.map(|first| first.subject.clone()).unwrap_or_default();
    let content = first.and_then(|first| first.sharing).map(|sharing| sharing.content);
    let mut writer = content.unwrap_or(Bundle::Commands).writer();
    for part in parts {
        writer.add(&part.message_id, &sender(part).traceparent(), &part.payload);
    }
    let mut headers = HeaderMap::new();
    let id = bundle_id(parts.iter().map(|part| part.message_id.as_str()));
    headers.insert(NATS_MESSAGE_ID, id.as_str());
    let body = Bytes::from(writer.finish());
    (subject, PublishMessage::build().payload(body).headers(headers))
}

/// Awaits the PubAck. Returns the positions of the parts, and the outcome.
async fn acknowledged(sent: Sent<'_>) -> (Vec<usize>, Result<(), String>) {
    let outcome = match sent.sent {
        Ok(ack) => timeout_at(sent.latest, ack.into_future())
            .await
            .unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut))),
        Err(error) => Err(error),
    };
    let outcome = outcome.map(drop).map_err(|error| error.to_string());
    for (place, message) in sent.spans {
        place.published(Published {
            begun: sent.begun,
            subject: &message.subject,
            message_id: &message.message_id,
            link: message.redrive_of,
            error: outcome.as_ref().err().cloned(),
        });
    }
    (sent.positions, outcome)
}

/// The messages without a PubAck.
#[derive(Debug)]
pub struct Unacknowledged {
    /// Their positions in the published slice, ascending.
    pub positions: Vec<usize>,
    /// The error of the last of them.
    pub reason: String,
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
        assert_eq!(groups(&messages), expected);
        let large = [MAX_BYTES / 2, MAX_BYTES / 2, 200, 2 * MAX_BYTES]
            .map(|size| outgoing("a", size, Some(100)));
        let expected: [&[usize]; 3] = [&[0], &[1, 2], &[3]];
        assert_eq!(groups(&large), expected);
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
