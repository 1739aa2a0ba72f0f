//! Publishes the message of a dead letter again.

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{context::PublishErrorKind, message::PublishMessage},
};

use contract::dead_letter::MAX_MESSAGE_ID;

use super::stream::DeadLetterStream;
use crate::{dead_letter::DeadLetter, error_chain};

/// Maximum length of a trace header, in bytes: the length of `tracestate` that W3C Trace Context
/// asks every system to pass on.
const MAX_TRACE_CONTEXT: usize = 512;

/// Why a message was not published.
pub(super) enum RepublishError {
    /// The broker rejected the message: nothing was stored.
    Rejected(String),
    /// The message may be stored or not.
    Unknown(anyhow::Error),
}

/// Publishes the letter's message to its original subject.
///
/// The message gets a new message id, because the stream may still remember the original one. The
/// id depends only on the letter, so a repeated attempt within the stream's duplicate window stores
/// no second message.
pub(super) async fn republish(
    stream: &DeadLetterStream,
    letter: &DeadLetter,
) -> Result<(), RepublishError> {
    let Some(subject) = letter.subject() else {
        return Err(RepublishError::Rejected("it does not name its original subject".to_owned()));
    };
    let mut headers = HeaderMap::new();
    for (name, values) in letter.headers.iter() {
        if matches!(name.to_string().as_str(), "traceparent" | "tracestate") {
            let usable = values.iter().find(|value| value.as_str().len() <= MAX_TRACE_CONTEXT);
            usable.into_iter().for_each(|value| headers.insert(name.clone(), value.clone()));
        }
    }
    // Earlier releases kept ids of any length. The result repeats the id.
    let short = |id: &&str| id.len() <= MAX_MESSAGE_ID / 2;
    let original_id = letter.message_id().filter(short).or(letter.place().filter(short));
    let original_id = original_id.unwrap_or("none");
    headers.insert(NATS_MESSAGE_ID, format!("{original_id}.letter-{}", letter.key()));
    let message = PublishMessage::build()
        .headers(headers)
        .payload(letter.payload.clone())
        .expected_stream(&letter.stream);
    let published = match stream.broker.jetstream.send_publish(subject.to_owned(), message).await {
        Ok(ack) => ack.await,
        Err(error) => Err(error),
    };
    published.map(drop).map_err(|error| match error.kind() {
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
            RepublishError::Unknown(error.into())
        }
        _ => RepublishError::Rejected(error_chain::describe(&error.into())),
    })
}
