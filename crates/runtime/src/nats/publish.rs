//! Publishes into a stream. A message counts as published only after its PubAck
//! arrived.
//!
//! A message that the broker refuses for good is isolated: the parts of a bundle are published
//! alone, and the body of a dead letter is truncated. What is refused even then is reported to
//! the caller as [`Refusal`], so that it is not published again and again.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{
    self,
    context::{PublishAckFuture, PublishError, PublishErrorKind},
};
use contract::bundle::MAX_BYTES;
use tokio::time::{Instant, timeout_at};

use super::{
    outgoing::{HEADER_ROOM, Outgoing, bundle, groups},
    refusal::{self, Refusal},
};
use crate::{
    failpoint,
    telemetry::{
        metrics::count,
        trace::{Published, Trace},
    },
};

/// Maximum messages in flight: sent, without a PubAck yet.
const IN_FLIGHT: usize = 512;
/// Time limit for a PubAck, counted from the sending of its message.
const PUB_ACK_LIMIT: Duration = Duration::from_secs(5);

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
