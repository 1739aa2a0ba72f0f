//! The form of a dead letter: its subject, its headers and the id of the
//! message inside it. The services write dead letters, `passbook dlq` lists,
//! replays and discards them.
//!
//! A dead letter is open until an operator replays or discards it. That is
//! recorded by a second message in the same stream, on a longer subject:
//!
//! ```text
//! dead-letter.<stream>.<consumer>                              open
//! dead-letter.closed.<stream>.<consumer>.<sequence>.<nanos>    closed
//! ```

use time::OffsetDateTime;

use crate::subjects::DEAD_LETTER_PREFIX;

/// Header: why the message could not be processed.
pub const REASON: &str = "Passbook-Reason";
/// Header: the subject that the message was published to.
pub const SUBJECT: &str = "Passbook-Subject";
/// Header: the [`message_place`] of the message, or the [`part_place`] of a part.
pub const PLACE: &str = "Passbook-Message";
/// Header: the `Nats-Msg-Id` of the message, or the id of a part.
pub const MESSAGE_ID: &str = "Passbook-Message-Id";
/// Header: the size of the body in bytes, if the dead letter holds only its
/// beginning.
pub const TRUNCATED_FROM: &str = "Passbook-Truncated-From";
/// Header of a closed dead letter: `redriven` or `discarded`.
pub const CLOSED: &str = "Passbook-Closed";
/// Header of a closed dead letter: the operator.
pub const CLOSED_BY: &str = "Passbook-Closed-By";
/// Header of a closed dead letter: the operator's reason.
pub const CLOSED_BECAUSE: &str = "Passbook-Closed-Because";

/// Maximum length of a message id that is repeated in a header, in bytes. The server limits
/// the headers of a message to 64 KiB. A longer id is replaced by a shorter name of its message.
pub const MAX_MESSAGE_ID: usize = 256;

/// The token before the stream's name once a dead letter is closed.
const CLOSED_TOKEN: &str = "closed";

/// Identifies a stored message as `<stream>.<sequence>.<nanos>`: its sequence
/// and the time of storing, in nanoseconds since 1970. The time keeps the id
/// unique after a stream is deleted and recreated, because the sequences of the
/// new stream start at 1 again.
#[must_use]
pub fn message_place(stream: &str, sequence: u64, stored: OffsetDateTime) -> String {
    format!("{stream}.{}", sequence_and_time(sequence, stored))
}

/// Identifies a part of a bundle as `<place of the message>.<index>`, from 0.
#[must_use]
pub fn part_place(message: &str, index: usize) -> String {
    format!("{message}.{index}")
}

/// Identifies a message within its stream as `<sequence>.<nanos>`.
#[must_use]
pub fn sequence_and_time(sequence: u64, stored: OffsetDateTime) -> String {
    format!("{sequence}.{}", stored.unix_timestamp_nanos())
}

/// The subject of an open dead letter.
#[must_use]
pub fn open_subject(stream: &str, consumer: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}.{stream}.{consumer}")
}

/// Filter: all open dead letters of a stream's messages; `*` for any stream.
#[must_use]
pub fn open_subjects(stream: &str) -> String {
    open_subject(stream, "*")
}

/// The subject of the message that closes a dead letter. `sequence` and
/// `stored` are those of the dead letter in `DEAD_LETTER`.
#[must_use]
pub fn closed_subject(
    stream: &str,
    consumer: &str,
    sequence: u64,
    stored: OffsetDateTime,
) -> String {
    let id = sequence_and_time(sequence, stored);
    format!("{DEAD_LETTER_PREFIX}.{CLOSED_TOKEN}.{stream}.{consumer}.{id}")
}

/// Filter: all closed dead letters of a stream's messages; `*` for any stream.
#[must_use]
pub fn closed_subjects(stream: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}.{CLOSED_TOKEN}.{stream}.*.*.*")
}

/// Filter: the messages that close a dead letter with this sequence. Several can
/// exist if the `DEAD_LETTER` stream was recreated.
#[must_use]
pub fn closed_subjects_of(sequence: u64) -> String {
    format!("{DEAD_LETTER_PREFIX}.{CLOSED_TOKEN}.*.*.{sequence}.*")
}

/// A parsed subject of the `DEAD_LETTER` stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// An open dead letter.
    Open {
        /// The stream of the message inside.
        stream: &'a str,
        /// The consumer that could not process it.
        consumer: &'a str,
    },
    /// The message that closes a dead letter.
    Closed {
        /// The stream of the message inside.
        stream: &'a str,
        /// The consumer that could not process it.
        consumer: &'a str,
        /// The sequence of the dead letter.
        sequence: u64,
        /// The time at which the dead letter was stored.
        stored: OffsetDateTime,
    },
}

impl<'a> Subject<'a> {
    /// Parses a subject; `None` for the subject of any other message.
    #[must_use]
    pub fn parse(subject: &'a str) -> Option<Self> {
        let tokens = subject.strip_prefix(DEAD_LETTER_PREFIX)?.strip_prefix('.')?;
        match *tokens.split('.').collect::<Vec<_>>().as_slice() {
            [stream, consumer] => Some(Self::Open { stream, consumer }),
            [CLOSED_TOKEN, stream, consumer, sequence, nanos] => Some(Self::Closed {
                stream,
                consumer,
                sequence: sequence.parse().ok()?,
                stored: OffsetDateTime::from_unix_timestamp_nanos(nanos.parse().ok()?).ok()?,
            }),
            _ => None,
        }
    }
}

/// Makes a text fit into a header: control characters become spaces, and at most
/// 1,000 characters are kept.
#[must_use]
pub fn header_text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_parsed_as_it_was_written() {
        let stored = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_789).unwrap();
        let open = open_subject("TRANSACTION", "deposit-consumer");
        let (stream, consumer) = ("TRANSACTION", "deposit-consumer");
        assert_eq!(Subject::parse(&open), Some(Subject::Open { stream, consumer }));
        let closed = closed_subject(stream, consumer, 7, stored);
        let parsed = Subject::Closed { stream, consumer, sequence: 7, stored };
        assert_eq!(Subject::parse(&closed), Some(parsed));
        for other in ["dead-letter", "dead-letter.A", "dead-letter.A.b.c", "transaction.deposit"] {
            assert_eq!(Subject::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_has_one_line() {
        assert_eq!(header_text("a\r\nb"), "a  b");
        assert_eq!(header_text(&"x".repeat(2000)).len(), 1000);
    }
}
