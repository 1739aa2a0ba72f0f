//! Pull requests to a consumer, and the messages that answer them.
//!
//! The client's own batch ends at the server's first status. In a cluster the server sends
//! messages only once their deliveries are replicated, but statuses at once: a status can
//! arrive before its messages, and they would reach nobody. So this reads the number of
//! outstanding messages from the status and waits for them.

use std::time::Duration;

use async_nats::{
    Client, HeaderMap, StatusCode, Subscriber,
    jetstream::{self, Message},
};
use contract::ConsumerSpec;
use futures::StreamExt;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

/// How long a pull waits for messages that a status has overtaken. Later ones arrive with
/// the next pull.
const OVERTAKEN: Duration = Duration::from_secs(1);
/// A pull counts as unanswered after its wait and this time.
const UNANSWERED_AFTER: Duration = Duration::from_secs(3);
/// Part of the server's status if the next message does not fit into a pull.
const TOO_LARGE: &str = "Exceeds MaxBytes";
/// Part of the server's status after the last message of a pull whose bytes are not used up.
const COMPLETE: &str = "Batch Completed";
/// A status has this header if the server knows how many messages the pull still asks for.
const PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// What a pull asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Maximum messages.
    pub(super) messages: u16,
    /// Maximum bytes of all messages. `None` is no limit.
    pub(super) bytes: Option<usize>,
    /// How long it waits for a first message.
    pub(super) wait: Duration,
}

/// Why a pull ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    /// Nothing answers: the consumer was deleted, or a leader is being elected.
    #[error("no consumer answers")]
    NoConsumer,
    /// The server sent neither a message nor a status.
    #[error("a pull was not answered")]
    Unanswered,
    /// The server ended the pull.
    #[error("the server ended a pull: {0}")]
    Ended(String),
    /// The connection was lost meanwhile.
    #[error("the connection was lost during a pull")]
    Disconnected,
    /// The request could not be sent.
    #[error("{0}")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The messages of a pull.
#[derive(Debug, Default)]
pub(super) struct Pulled {
    /// The messages that arrived, also after an error.
    pub(super) messages: Vec<Message>,
    /// The next message is larger than the bytes that were left.
    pub(super) is_too_large: bool,
    /// Why the pull ended early.
    pub(super) error: Option<PullError>,
}

/// Sends pulls to one consumer. All use the same subscription, so that a message of an
/// earlier pull arrives with a later one.
#[derive(Debug)]
pub(super) struct Puller {
    client: Client,
    jetstream: jetstream::Context,
    /// Where the server expects pulls.
    subject: String,
    /// The inbox. Each pull has a token of its own below it.
    inbox: String,
    responses: Subscriber,
    pulls: u64,
}

impl Puller {
    /// Subscribes.
    ///
    /// # Errors
    /// If the client is closed.
    pub(super) async fn new(
        client: Client,
        jetstream: jetstream::Context,
        consumer: &ConsumerSpec,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let responses = client.subscribe(format!("{inbox}.*")).await?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream, consumer.name);
        Ok(Self { client, jetstream, subject, inbox, responses, pulls: 0 })
    }

    /// Pulls into `pulled` until the request is answered. `pulled` keeps what has arrived if
    /// this future is dropped.
    pub(super) async fn pull(&mut self, request: Request, pulled: &mut Pulled) {
        if let Err(error) = self.receive(request, pulled).await {
            pulled.error = Some(error);
        }
    }

    async fn receive(&mut self, request: Request, pulled: &mut Pulled) -> Result<(), PullError> {
        let inbox = self.send(request).await?;
        let mut missing = usize::from(request.messages);
        let mut until = Instant::now() + request.wait + UNANSWERED_AFTER;
        let mut is_answered = false;
        while pulled.messages.len() < missing {
            let Ok(response) = timeout_at(until, self.responses.next()).await else {
                let is_silent = !is_answered && pulled.messages.is_empty();
                return if is_silent { Err(PullError::Unanswered) } else { Ok(()) };
            };
            let response = response.ok_or_else(|| connection("the subscription has ended"))?;
            let Some(status) = response.status else {
                let context = self.jetstream.clone();
                pulled.messages.push(Message { message: response, context });
                continue;
            };
            // A status of an earlier pull says nothing about this one.
            if response.subject.as_str() != inbox {
                continue;
            }
            let description = response.description.as_deref().unwrap_or_default();
            pulled.is_too_large |= description.contains(TOO_LARGE);
            let outcome = judge(status, description);
            let Some(pending) = response.headers.as_ref().and_then(pending) else {
                return outcome;
            };
            if let Err(error) = outcome {
                pulled.error = Some(error);
            }
            missing = missing.saturating_sub(pending);
            (until, is_answered) = (Instant::now() + OVERTAKEN, true);
        }
        Ok(())
    }

    /// Sends a pull. Returns the subject of its statuses.
    async fn send(&mut self, request: Request) -> Result<String, PullError> {
        self.pulls = self.pulls.wrapping_add(1);
        let inbox = format!("{}.{}", self.inbox, self.pulls);
        let mut body = json!({
            "batch": request.messages,
            // It waits for a first message only.
            "no_wait": true,
            "expires": u64::try_from(request.wait.as_nanos()).unwrap_or(u64::MAX),
        });
        if let (Some(bytes), Some(body)) = (request.bytes, body.as_object_mut()) {
            body.insert("max_bytes".to_owned(), bytes.into());
        }
        let body = body.to_string().into();
        let sent = self.client.publish_with_reply(self.subject.clone(), inbox.clone(), body).await;
        sent.map_err(connection)?;
        Ok(inbox)
    }
}

fn connection(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PullError {
    PullError::Connection(error.into())
}

/// The messages that a pull still asks for when the server ends it.
fn pending(headers: &HeaderMap) -> Option<usize> {
    headers.get_last(PENDING_MESSAGES)?.as_str().parse().ok()
}

/// Whether a status is a regular end of a pull.
fn judge(status: StatusCode, description: &str) -> Result<(), PullError> {
    match status {
        StatusCode::TIMEOUT | StatusCode::NOT_FOUND => Ok(()),
        StatusCode::NO_RESPONDERS => Err(PullError::NoConsumer),
        _ if [COMPLETE, TOO_LARGE].iter().any(|end| description.contains(end)) => Ok(()),
        _ => Err(PullError::Ended(format!("{} {description}", status.as_u16()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_that_ends_as_asked_is_no_error() {
        for (status, description) in [
            (408, "Request Timeout"),
            (404, "No Messages"),
            (409, "Batch Completed"),
            (409, "Message Size Exceeds MaxBytes"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(judge(status, description).is_ok(), "{status} {description}");
        }
        let status = StatusCode::from_u16(409).unwrap();
        let error = judge(status, "Consumer Deleted").unwrap_err().to_string();
        assert_eq!(error, "the server ended a pull: 409 Consumer Deleted");
        let error = judge(StatusCode::NO_RESPONDERS, "").unwrap_err();
        assert!(matches!(error, PullError::NoConsumer));
    }
}
