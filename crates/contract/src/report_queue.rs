//! The configurable part of the queue of reports: its names and limits. Storage (file),
//! retention (work queue), deliver policy and explicit acks are part of the protocol.

use std::time::Duration;

use crate::topology::{ACK_WAIT, DAY, STANDARD, subjects};

/// The stream of report jobs and its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportQueue {
    /// The stream's name.
    pub stream: &'static str,
    /// The subject of its messages: [`crate::Job`].
    pub subject: &'static str,
    /// The durable name of its consumer, read by the report-service.
    pub consumer: &'static str,
    /// A message is removed at this age.
    pub max_age: Duration,
    /// A message without an ack is redelivered after this time.
    pub ack_wait: Duration,
    /// Maximum deliveries of a message.
    pub max_deliver: i64,
    /// Maximum jobs at the same time, whatever the number of workers.
    pub max_ack_pending: i64,
}

/// The variables of the report-service that name its queue. Whatever creates, reads or
/// checks the queue reads the same variables.
pub mod variables {
    /// The stream's name.
    pub const STREAM: &str = "PASSBOOK_REPORT_STREAM";
    /// The subject of its messages.
    pub const SUBJECT: &str = "PASSBOOK_REPORT_SUBJECT";
    /// The durable name of its consumer.
    pub const CONSUMER: &str = "PASSBOOK_REPORT_CONSUMER";
}

/// Why a setting of the queue was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQueue {
    /// Not a name for NATS.
    #[error("a name is 1 to 64 letters, digits, `-` and `_`, not {0:?}")]
    Name(String),
    /// Not a subject to publish to.
    #[error("a subject is tokens of letters, digits, `-` and `_`, joined by dots, not {0:?}")]
    Subject(String),
    /// The name or subject is in use.
    #[error("{0:?} is used by another stream, consumer or message of Passbook")]
    Taken(String),
    /// Not an age, or out of bounds.
    #[error("an age is 1h to 365d, such as 90m, 12h or 7d, not {0:?}")]
    Age(String),
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const LONGEST_NAME: usize = 64;
const LONGEST_SUBJECT: usize = 128;

impl ReportQueue {
    /// The queue without any setting.
    pub const DEFAULT: Self = Self {
        stream: "job",
        subject: "message.process",
        consumer: "job_cons",
        max_age: DAY.saturating_mul(7),
        ack_wait: ACK_WAIT,
        max_deliver: 5,
        max_ack_pending: 1,
    };

    /// The default queue under the names in these variables. An empty value counts as
    /// missing.
    ///
    /// # Errors
    /// The first invalid value, with the name of its variable.
    pub fn from_variables(
        value: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, (&'static str, InvalidQueue)> {
        let parse =
            |variable, parse: fn(&str) -> Result<String, InvalidQueue>, default| match value(
                variable,
            )
            .filter(|text| !text.is_empty())
            {
                None => Ok(default),
                Some(text) => {
                    parse(&text).map(|name| &*name.leak()).map_err(|error| (variable, error))
                }
            };
        Ok(Self {
            stream: parse(variables::STREAM, Self::parse_stream, Self::DEFAULT.stream)?,
            subject: parse(variables::SUBJECT, Self::parse_subject, Self::DEFAULT.subject)?,
            consumer: parse(variables::CONSUMER, Self::parse_consumer, Self::DEFAULT.consumer)?,
            ..Self::DEFAULT
        })
    }

    /// Parses the name of the stream.
    ///
    /// # Errors
    /// If NATS would reject it, or another stream has it.
    pub fn parse_stream(text: &str) -> Result<String, InvalidQueue> {
        let others = STANDARD.streams.iter().map(|stream| stream.name);
        free_name(text, Self::DEFAULT.stream, others)
    }

    /// Parses the durable name of the consumer. No two consumers of Passbook share a
    /// name, because the server's advisories are settled by it.
    ///
    /// # Errors
    /// If NATS would reject it, or another consumer has it.
    pub fn parse_consumer(text: &str) -> Result<String, InvalidQueue> {
        let others = STANDARD.consumers.iter().map(|consumer| consumer.name);
        free_name(text, Self::DEFAULT.consumer, others)
    }

    /// Parses the subject: no wildcard, no subject of the server or of a reply.
    ///
    /// # Errors
    /// If NATS would reject it, or other messages of Passbook are published to it.
    pub fn parse_subject(text: &str) -> Result<String, InvalidQueue> {
        let valid = text.len() <= LONGEST_SUBJECT
            && !text.starts_with('_')
            && text.split('.').all(is_token);
        if !valid {
            return Err(InvalidQueue::Subject(text.to_owned()));
        }
        let others = STANDARD.streams.iter().filter(|other| other.name != Self::DEFAULT.stream);
        let mut captured = others.flat_map(|stream| stream.subjects).copied();
        if text == subjects::SETTLED || captured.any(|pattern| captures(pattern, text)) {
            return Err(InvalidQueue::Taken(text.to_owned()));
        }
        Ok(text.to_owned())
    }

    /// Parses the age at which the stream removes a message: `90m`, `12h`, `7d`.
    ///
    /// # Errors
    /// If it has no such form, or is not 1h to 365d.
    pub fn parse_max_age(text: &str) -> Result<Duration, InvalidQueue> {
        let unit = match text.chars().last() {
            Some('m') => Duration::from_secs(60),
            Some('h') => HOUR,
            Some('d') => DAY,
            _ => return Err(InvalidQueue::Age(text.to_owned())),
        };
        let number = text.trim_end_matches(['m', 'h', 'd']);
        let digits = number.len() + 1 == text.len() && number.bytes().all(|c| c.is_ascii_digit());
        let age = number.parse().ok().filter(|_| digits);
        age.and_then(|number| unit.checked_mul(number))
            .filter(|age| (HOUR..=DAY.saturating_mul(365)).contains(age))
            .ok_or_else(|| InvalidQueue::Age(text.to_owned()))
    }
}

/// A name that no other entry of the table has.
fn free_name(
    text: &str,
    own: &str,
    mut all: impl Iterator<Item = &'static str>,
) -> Result<String, InvalidQueue> {
    if text.len() > LONGEST_NAME || !is_token(text) {
        return Err(InvalidQueue::Name(text.to_owned()));
    }
    if text != own && all.any(|name| name == text) {
        return Err(InvalidQueue::Taken(text.to_owned()));
    }
    Ok(text.to_owned())
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
}

/// Whether a stream with this subject, maybe with a last token `>`, captures messages
/// on `subject`.
fn captures(pattern: &str, subject: &str) -> bool {
    match pattern.strip_suffix('>') {
        Some(prefix) => subject.starts_with(prefix),
        None => pattern == subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_subjects_of_others_are_rejected() {
        for name in ["jobs", "job", "reports_2-a"] {
            assert_eq!(ReportQueue::parse_stream(name).as_deref(), Ok(name));
        }
        assert_eq!(ReportQueue::parse_consumer("job_cons").as_deref(), Ok("job_cons"));
        for name in ["", "a b", "a.b", "a*", "a>", "ä", "a/b", &"a".repeat(65)] {
            assert_eq!(ReportQueue::parse_stream(name), Err(InvalidQueue::Name(name.into())));
        }
        let taken = |name: &str| Err(InvalidQueue::Taken(name.into()));
        assert_eq!(ReportQueue::parse_stream("TRANSACTION"), taken("TRANSACTION"));
        let other = "jobs-used-up-consumer";
        assert_eq!(ReportQueue::parse_consumer(other), taken(other));

        for subject in ["message.process", "reports", "a.b_c.d-e", "transaction.other"] {
            assert_eq!(ReportQueue::parse_subject(subject).as_deref(), Ok(subject));
        }
        for subject in
            ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "$JS.API.INFO", "_INBOX.a", "a b"]
        {
            let invalid = Err(InvalidQueue::Subject(subject.into()));
            assert_eq!(ReportQueue::parse_subject(subject), invalid);
        }
        for subject in [
            "transaction.deposit",
            "transaction.result.job",
            "account.settled",
            "dead-letter.job.x",
        ] {
            assert_eq!(ReportQueue::parse_subject(subject), taken(subject));
        }
    }

    #[test]
    fn an_age_has_bounds() {
        for (text, hours) in [("60m", 1), ("12h", 12), ("7d", 168), ("365d", 8760)] {
            let age = Duration::from_secs(hours * 3600);
            assert_eq!(ReportQueue::parse_max_age(text), Ok(age));
        }
        for text in ["", "d", "59m", "366d", "7", "-1d", "+7d", "1.5d", "7dd", "7s", "99999999999d"]
        {
            assert_eq!(ReportQueue::parse_max_age(text), Err(InvalidQueue::Age(text.into())));
        }
    }

    #[test]
    fn the_variables_change_the_names_everywhere() {
        let value = |name: &str| match name {
            variables::STREAM => Some("documents".to_owned()),
            variables::SUBJECT => Some("documents.wanted".to_owned()),
            _ => Some(String::new()),
        };
        let queue = ReportQueue::from_variables(value).unwrap();
        let topology = crate::Topology::leak(queue, crate::StreamStorage::DEFAULT);
        assert_eq!(topology.stream("documents").unwrap().subjects, ["documents.wanted"]);
        assert_eq!(topology.consumer("job_cons").unwrap().filter, "documents.wanted");
        let advisories = topology.consumer("jobs-used-up-consumer").unwrap().filter;
        assert!(advisories.ends_with(".documents.*"), "{advisories}");
        let default = ReportQueue::from_variables(|_| None).unwrap();
        assert_eq!(crate::Topology::leak(default, crate::StreamStorage::DEFAULT), &STANDARD);
        let invalid = ReportQueue::from_variables(|_| Some("a b".to_owned()));
        assert_eq!(invalid, Err((variables::STREAM, InvalidQueue::Name("a b".to_owned()))));
    }
}
