//! One dead letter, open or closed, as it lies in the stream.

use async_nats::{HeaderMap, HeaderValue, jetstream::message::StreamMessage};
use contract::{RecordId, subjects::DEAD_LETTER_PREFIX};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::bytes::Bytes;

/// The token that stands before the stream's name once a letter is closed.
const CLOSED: &str = "closed";

/// The subjects of open letters whose messages were in this stream; `*`: in
/// any.
pub(crate) fn open_subjects(stream: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}.{stream}.*")
}

/// The subjects of those that are closed.
pub(crate) fn closed_subjects(stream: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}.{CLOSED}.{stream}.*.*.*")
}

/// The subjects on which a letter with this id may have been closed: another
/// stream of the same name may have had one, too.
pub(super) fn closed_subjects_of(id: u64) -> String {
    format!("{DEAD_LETTER_PREFIX}.{CLOSED}.*.*.{id}.*")
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// Its message was sent again.
    Redriven,
    /// It was given up.
    Discarded,
}

impl Action {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Redriven, Self::Discarded].into_iter().find(|it| it.as_str() == text)
    }
}

/// Who closed a letter, how, when and why.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Closed {
    /// Where that is written.
    #[serde(skip)]
    pub(super) sequence: u64,
    pub(super) action: Action,
    pub(super) by: String,
    pub(super) at: String,
    pub(super) because: Option<String>,
}

impl Closed {
    /// As a half-sentence.
    pub(super) fn told(&self) -> String {
        let because = self.because.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
        format!("{} by {} at {}{because}", self.action.as_str(), self.by, self.at)
    }
}

/// One dead letter.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    /// Its sequence in the stream.
    pub(super) id: u64,
    pub(super) kept_at: OffsetDateTime,
    /// Where its message was, and whose it was.
    pub(super) stream: String,
    pub(super) consumer: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    /// The record that its body names, if it can be read that far.
    pub(super) record: Option<RecordId>,
    /// What became of it, if this is what is kept of a closed one.
    pub(super) closed: Option<Closed>,
}

/// As it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LetterView {
    id: u64,
    kept_at: String,
    consumer: String,
    reason: String,
    /// Where its message was published.
    subject: String,
    /// The message's `Nats-Msg-Id`.
    message_id: Option<String>,
    record_id: Option<RecordId>,
    /// How long the body was, if it had to be cut.
    truncated_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<Closed>,
    body: String,
}

impl Letter {
    /// The letter in a message of the stream; `None` if it holds none.
    pub(super) fn read(message: StreamMessage) -> Option<Self> {
        let StreamMessage { subject, sequence, headers, payload, time } = message;
        Self::new(&subject, sequence, time, headers, payload)
    }

    fn new(
        subject: &str,
        sequence: u64,
        time: OffsetDateTime,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OfRecord {
            record_id: RecordId,
        }
        let record = serde_json::from_slice(&payload).ok().map(|it: OfRecord| it.record_id);
        let header = |name: &str| headers.get(name).map(ToString::to_string);
        let rest = subject.strip_prefix(DEAD_LETTER_PREFIX)?.strip_prefix('.')?;
        let tokens: Vec<_> = rest.split('.').collect();
        let (stream, consumer, id, kept_at, closed) = match *tokens.as_slice() {
            [stream, consumer] => (stream, consumer, sequence, time, None),
            [CLOSED, stream, consumer, id, kept_at] => {
                let nanos = kept_at.parse().ok()?;
                let kept_at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
                let closed = Closed {
                    sequence,
                    action: Action::parse(&header("Passbook-Closed")?)?,
                    by: header("Passbook-Closed-By").unwrap_or_default(),
                    at: rfc3339(time),
                    because: header("Passbook-Closed-Because"),
                };
                (stream, consumer, id.parse().ok()?, kept_at, Some(closed))
            }
            _ => return None,
        };
        let (stream, consumer) = (stream.to_owned(), consumer.to_owned());
        Some(Self { id, kept_at, stream, consumer, headers, payload, record, closed })
    }

    /// The id and the time: another letter of this id, in a stream that was
    /// made anew and counts from one again, has another.
    pub(super) fn key(&self) -> String {
        format!("{}.{}", self.id, self.kept_at.unix_timestamp_nanos())
    }

    /// The subject on which it is written what became of this letter, and of
    /// no other.
    pub(super) fn closed_subject(&self) -> String {
        let (stream, consumer) = (&self.stream, &self.consumer);
        format!("{DEAD_LETTER_PREFIX}.{CLOSED}.{stream}.{consumer}.{}", self.key())
    }

    pub(super) fn reason(&self) -> &str {
        self.header("Passbook-Reason").unwrap_or_default()
    }

    /// Where its message was published.
    pub(super) fn subject(&self) -> Option<&str> {
        self.header("Passbook-Subject")
    }

    /// The id of its message.
    pub(super) fn message_id(&self) -> Option<&str> {
        self.header("Passbook-Message-Id")
    }

    /// The place of its message in the stream that it was in.
    pub(super) fn place(&self) -> Option<&str> {
        self.header("Passbook-Message")
    }

    /// How long the body was, if it had to be cut.
    pub(super) fn truncated_from(&self) -> Option<&str> {
        self.header("Passbook-Truncated-From")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(HeaderValue::as_str)
    }

    /// As it is printed.
    pub(super) fn view(&self) -> LetterView {
        LetterView {
            id: self.id,
            kept_at: rfc3339(self.kept_at),
            consumer: self.consumer.clone(),
            reason: self.reason().to_owned(),
            subject: self.subject().unwrap_or_default().to_owned(),
            message_id: self.message_id().map(str::to_owned),
            record_id: self.record,
            truncated_from: self.truncated_from().map(str::to_owned),
            closed: self.closed.clone(),
            body: self.body(),
        }
    }

    /// Its body as text; what is none is replaced.
    pub(super) fn body(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// A time as it is printed, to the millisecond.
pub(super) fn rfc3339(time: OffsetDateTime) -> String {
    let millis = time.replace_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000);
    millis.unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}
