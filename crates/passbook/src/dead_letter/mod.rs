//! One message of the dead-letter stream: an open letter, or the closing note of one.
//!
//! Anybody with access to the broker can have written it.

mod known_records;
pub mod preview;
mod text;

use std::fmt;

use async_nats::{HeaderMap, HeaderValue, jetstream::message::StreamMessage};
use contract::{
    RecordId,
    bundle::Bundle,
    dead_letter::{self, Subject},
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::bytes::Bytes;

pub use known_records::{KnownRecord, KnownRecords, KnownTransaction};

/// How a letter is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Its message is published again.
    #[serde(rename = "redriven")]
    Replayed,
    Discarded,
}

impl Action {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "redriven",
            Self::Discarded => "discarded",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Replayed, Self::Discarded].into_iter().find(|action| action.as_str() == text)
    }
}

/// Who closed a letter, how, when and why.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosingNote {
    /// Sequence of the note in the stream.
    #[serde(skip)]
    pub sequence: u64,
    pub action: Action,
    pub by: String,
    pub at: String,
    pub because: Option<String>,
}

impl fmt::Display for ClosingNote {
    /// Formats the note as part of a sentence, such as `discarded by mina at …: a forgery`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} at {}", self.action.as_str(), self.by, self.at)?;
        self.because.as_ref().map_or(Ok(()), |because| write!(f, ": {because}"))
    }
}

/// One dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Sequence of the open letter in the stream.
    pub id: u64,
    pub kept_at: OffsetDateTime,
    /// The stream of its message.
    pub stream: String,
    /// The consumer unable to process its message.
    pub consumer: String,
    pub headers: HeaderMap,
    pub payload: Bytes,
    /// The `recordId` in its body, or those of its commands or results.
    pub records: Vec<RecordId>,
    /// `None` for an open letter.
    pub closed: Option<ClosingNote>,
}

/// The JSON form of a letter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterView {
    id: u64,
    kept_at: String,
    consumer: String,
    reason: String,
    /// The original subject of the message.
    subject: String,
    /// The `Nats-Msg-Id` of the message.
    message_id: Option<String>,
    record_id: Option<RecordId>,
    /// The original size of a truncated body, in bytes.
    truncated_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<ClosingNote>,
    body: String,
}

impl DeadLetter {
    /// Parses a message of the stream; `None` if it is neither a letter nor a closing note.
    pub fn parse(message: StreamMessage) -> Option<Self> {
        let StreamMessage { subject, sequence, headers, payload, time } = message;
        let records = records(&payload);
        let header = |name: &str| headers.get(name).map(ToString::to_string);
        let (stream, consumer, id, kept_at, closed) = match Subject::parse(&subject)? {
            Subject::Open { stream, consumer } => (stream, consumer, sequence, time, None),
            Subject::Closed { stream, consumer, sequence: id, stored } => {
                let closed = ClosingNote {
                    sequence,
                    action: Action::parse(&header(dead_letter::CLOSED)?)?,
                    by: header(dead_letter::CLOSED_BY).unwrap_or_default(),
                    at: rfc3339(time),
                    because: header(dead_letter::CLOSED_BECAUSE),
                };
                (stream, consumer, id, stored, Some(closed))
            }
        };
        let (stream, consumer) = (stream.to_owned(), consumer.to_owned());
        Some(Self { id, kept_at, stream, consumer, headers, payload, records, closed })
    }

    /// The id and the time. The time keeps the key unique when the stream is created again and its
    /// sequences restart at 1.
    pub fn key(&self) -> String {
        dead_letter::sequence_and_time(self.id, self.kept_at)
    }

    /// The subject of the closing note about this letter alone.
    pub fn closed_subject(&self) -> String {
        dead_letter::closed_subject(&self.stream, &self.consumer, self.id, self.kept_at)
    }

    /// The record of its message, if it names one only.
    pub fn record(&self) -> Option<RecordId> {
        let [record] = *self.records.as_slice() else { return None };
        Some(record)
    }

    pub fn reason(&self) -> &str {
        self.header(dead_letter::REASON).unwrap_or_default()
    }

    /// The original subject of its message.
    pub fn subject(&self) -> Option<&str> {
        self.header(dead_letter::SUBJECT)
    }

    /// The `Nats-Msg-Id` of its message.
    pub fn message_id(&self) -> Option<&str> {
        self.header(dead_letter::MESSAGE_ID)
    }

    /// The place of its message in the original stream: `<stream>.<sequence>.<nanos>`.
    pub fn place(&self) -> Option<&str> {
        self.header(dead_letter::PLACE)
    }

    /// The original size of a truncated body, in bytes.
    pub fn truncated_from(&self) -> Option<&str> {
        self.header(dead_letter::TRUNCATED_FROM)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(HeaderValue::as_str)
    }

    pub fn view(&self) -> DeadLetterView {
        DeadLetterView {
            id: self.id,
            kept_at: rfc3339(self.kept_at),
            consumer: self.consumer.clone(),
            reason: self.reason().to_owned(),
            subject: self.subject().unwrap_or_default().to_owned(),
            message_id: self.message_id().map(str::to_owned),
            record_id: self.record(),
            truncated_from: self.truncated_from().map(str::to_owned),
            closed: self.closed.clone(),
            body: self.body(),
        }
    }

    /// Its body as text. Invalid UTF-8 is replaced.
    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// The records that a body names. A message with several commands or results is a dead letter as a
/// whole if a release dead-lettered it that knows single ones only, or if it is out of bounds. In
/// the latter case it names none.
fn records(payload: &[u8]) -> Vec<RecordId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        record_id: RecordId,
    }
    let record = |body: &[u8]| serde_json::from_slice(body).ok().map(|body: Body| body.record_id);
    for content in [Bundle::Commands, Bundle::Results] {
        if let Ok(Some(parts)) = content.parse(payload) {
            return parts.iter().filter_map(|part| record(part.body.as_bytes())).collect();
        }
    }
    record(payload).into_iter().collect()
}

/// A time in the form of RFC 3339, to the millisecond.
pub fn rfc3339(time: OffsetDateTime) -> String {
    let millis = time.replace_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000);
    millis.unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}
