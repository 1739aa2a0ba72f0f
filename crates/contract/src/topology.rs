//! The table of streams and consumers. Retention, acknowledgement and limits
//! are part of the protocol. Replicas and placement are configuration, and so are
//! [`ReportQueue`], the names and limits of the queue of reports, and [`StreamStorage`], the
//! bytes of all streams.

use std::time::Duration;

use crate::{ReportQueue, StreamStorage, bundle::Bundle};

/// Subjects that messages are published to.
pub mod subjects {
    /// Deposit commands.
    pub const DEPOSIT: &str = "transaction.deposit";
    /// Withdrawal commands.
    pub const WITHDRAWAL: &str = "transaction.withdrawal";
    /// Results of deposits.
    pub const RESULT_DEPOSIT: &str = "transaction.result.deposit";
    /// Results of withdrawals.
    pub const RESULT_WITHDRAWAL: &str = "transaction.result.withdrawal";
    /// Ids of records that were just settled, 16 bytes each: from one
    /// account-service replica to the others, for their waiting clients. No stream
    /// captures this subject.
    pub const SETTLED: &str = "account.settled";
    /// First token of a dead letter's subject; see [`crate::dead_letter`].
    pub const DEAD_LETTER_PREFIX: &str = "dead-letter";
}

/// When a stream removes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Once the message is acked, or older than `max_age`.
    WorkQueue,
    /// Once the message is older than `max_age`.
    Limits,
}

/// What a stream does with a new message when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It rejects the message: nothing that it holds may be lost.
    RejectNew,
    /// It removes its oldest messages: what they say can be asked for again.
    DiscardOldest,
}

/// A stream. Storage is always file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSpec {
    /// The stream's name.
    pub name: &'static str,
    /// Captured subjects.
    pub subjects: &'static [&'static str],
    /// When the stream removes a message.
    pub retention: Retention,
    /// A message is removed at this age, processed or not.
    pub max_age: Duration,
    /// Maximum size, in bytes. The server reserves them.
    pub max_bytes: u64,
    /// What happens at the maximum size.
    pub when_full: WhenFull,
    /// The server ignores a repeated `Nats-Msg-Id` within this time. Short, because
    /// the server keeps every id in memory.
    pub duplicate_window: Duration,
}

impl StreamSpec {
    /// Whether a message that is published to this subject is stored in the stream.
    #[must_use]
    pub fn captures(&self, subject: &str) -> bool {
        // Without wildcards, and without the blanks between the words of the protocol.
        let is_token = |token: &str| {
            let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '*' && c != '>';
            !token.is_empty() && token.chars().all(is_plain)
        };
        subject.split('.').all(is_token)
            && self.subjects.iter().any(|pattern| matches(pattern, subject))
    }
}

/// Whether a subject matches a pattern with wildcards.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some(pattern), Some(token)) if pattern == "*" || pattern == token => {}
            _ => return false,
        }
    }
}

/// A durable pull consumer: explicit acks, deliver policy "all".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// The durable name.
    pub name: &'static str,
    /// The stream to read.
    pub stream: &'static str,
    /// The subject filter.
    pub filter: &'static str,
    /// A message without an ack is redelivered after this time.
    pub ack_wait: Duration,
    /// Maximum deliveries of a message; -1: unlimited.
    pub max_deliver: i64,
    /// Maximum unacked messages of all its workers together.
    pub max_ack_pending: i64,
    /// The content of messages with several parts; `None` if each message has one.
    pub bundle: Option<Bundle>,
}

/// Names of the durable consumers.
pub mod consumers {
    /// Deposits, read by the transaction-service.
    pub const DEPOSIT: &str = "deposit-consumer";
    /// Withdrawals, read by the transaction-service.
    pub const WITHDRAWAL: &str = "withdrawal-consumer";
    /// Results, read by the account-service.
    pub const ACCOUNT_RESULT: &str = "account-result-consumer";
    /// Advisories about commands, read by the transaction-service.
    pub const COMMANDS_MAX_DELIVERIES: &str = "commands-used-up-consumer";
    /// Advisories about results, read by the account-service.
    pub const RESULTS_MAX_DELIVERIES: &str = "results-used-up-consumer";
    /// Advisories about report jobs, read by the report-service.
    pub const JOBS_MAX_DELIVERIES: &str = "jobs-used-up-consumer";
}

/// The stream of commands.
pub const TRANSACTION: &str = "TRANSACTION";
/// The stream of results.
pub const TRANSACTION_RESULT: &str = "TRANSACTION_RESULT";
/// The stream of dead letters.
pub const DEAD_LETTER: &str = "DEAD_LETTER";
/// The stream of the server's MAX_DELIVERIES advisories: each names a message
/// that reached `max_deliver` and is not redelivered any more.
pub const MAX_DELIVERIES: &str = "USED_UP";
/// The streams behind a deposit or withdrawal. Both services create them.
pub const MOVEMENT_STREAMS: [&str; 4] =
    [TRANSACTION, TRANSACTION_RESULT, DEAD_LETTER, MAX_DELIVERIES];

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(30);
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Room for the batches of 20 workers: each has 500 messages in process and
/// 500 in delivery.
const MANY: i64 = 20_000;

/// Every stream and consumer of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    /// Every stream.
    pub streams: [StreamSpec; 5],
    /// Every durable consumer.
    pub consumers: [ConsumerSpec; 7],
    /// The queue of reports.
    pub report: ReportQueue,
}

/// The streams and consumers with the default queue of reports and the default storage.
pub static STANDARD: Topology = table(
    ReportQueue::DEFAULT,
    StreamStorage::DEFAULT,
    &[ReportQueue::DEFAULT.subject],
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.job.*",
);

impl Topology {
    /// The streams and consumers with this queue of reports and this storage. It stays in
    /// memory: a process makes one, when it starts.
    #[must_use]
    pub fn leak(report: ReportQueue, storage: StreamStorage) -> &'static Self {
        let advisories =
            format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{}.*", report.stream).leak();
        Box::leak(Box::new(table(report, storage, vec![report.subject].leak(), advisories)))
    }

    /// The stream with this name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&StreamSpec> {
        self.streams.iter().find(|stream| stream.name == name)
    }

    /// The consumer with this name.
    #[must_use]
    pub fn consumer(&self, name: &str) -> Option<&ConsumerSpec> {
        self.consumers.iter().find(|consumer| consumer.name == name)
    }

    /// The streams behind a report. The report-service creates them.
    #[must_use]
    pub const fn report_streams(&self) -> [&'static str; 3] {
        [self.report.stream, DEAD_LETTER, MAX_DELIVERIES]
    }
}

const fn table(
    report: ReportQueue,
    storage: StreamStorage,
    report_subjects: &'static [&'static str],
    report_advisories: &'static str,
) -> Topology {
    Topology {
        report,
        streams: [
            StreamSpec {
                name: TRANSACTION,
                subjects: &[subjects::DEPOSIT, subjects::WITHDRAWAL],
                retention: Retention::WorkQueue,
                max_age: DAY.saturating_mul(7),
                max_bytes: storage.commands(),
                when_full: WhenFull::RejectNew,
                duplicate_window: DUPLICATE_WINDOW,
            },
            StreamSpec {
                name: TRANSACTION_RESULT,
                subjects: &["transaction.result.>"],
                retention: Retention::Limits,
                max_age: DAY.saturating_mul(7),
                max_bytes: storage.results(),
                when_full: WhenFull::DiscardOldest,
                duplicate_window: DUPLICATE_WINDOW,
            },
            StreamSpec {
                name: report.stream,
                subjects: report_subjects,
                retention: Retention::WorkQueue,
                max_age: report.max_age,
                max_bytes: storage.jobs(),
                when_full: WhenFull::RejectNew,
                duplicate_window: DUPLICATE_WINDOW,
            },
            StreamSpec {
                name: DEAD_LETTER,
                subjects: &["dead-letter.>"],
                // A work queue can't be browsed.
                retention: Retention::Limits,
                max_age: DAY.saturating_mul(90),
                max_bytes: storage.dead_letters(),
                when_full: WhenFull::RejectNew,
                duplicate_window: DUPLICATE_WINDOW,
            },
            StreamSpec {
                name: MAX_DELIVERIES,
                subjects: &["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"],
                retention: Retention::WorkQueue,
                max_age: DAY.saturating_mul(90),
                max_bytes: storage.advisories(),
                when_full: WhenFull::RejectNew,
                duplicate_window: DUPLICATE_WINDOW,
            },
        ],
        consumers: [
            ConsumerSpec {
                name: consumers::DEPOSIT,
                stream: TRANSACTION,
                filter: subjects::DEPOSIT,
                ack_wait: ACK_WAIT,
                max_deliver: 3,
                max_ack_pending: MANY,
                bundle: Some(Bundle::Commands),
            },
            ConsumerSpec {
                name: consumers::WITHDRAWAL,
                stream: TRANSACTION,
                filter: subjects::WITHDRAWAL,
                ack_wait: ACK_WAIT,
                max_deliver: 3,
                max_ack_pending: MANY,
                bundle: Some(Bundle::Commands),
            },
            ConsumerSpec {
                name: consumers::ACCOUNT_RESULT,
                stream: TRANSACTION_RESULT,
                filter: "transaction.result.>",
                ack_wait: ACK_WAIT,
                max_deliver: 3,
                max_ack_pending: MANY,
                bundle: Some(Bundle::Results),
            },
            ConsumerSpec {
                name: consumers::COMMANDS_MAX_DELIVERIES,
                stream: MAX_DELIVERIES,
                filter: "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION.*",
                ack_wait: ACK_WAIT,
                // Nothing captures the advisories about this consumer: unlimited.
                max_deliver: -1,
                max_ack_pending: MANY,
                bundle: None,
            },
            ConsumerSpec {
                name: consumers::RESULTS_MAX_DELIVERIES,
                stream: MAX_DELIVERIES,
                filter: "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION_RESULT.*",
                ack_wait: ACK_WAIT,
                max_deliver: -1,
                max_ack_pending: MANY,
                bundle: None,
            },
            ConsumerSpec {
                name: report.consumer,
                stream: report.stream,
                filter: report.subject,
                ack_wait: report.ack_wait,
                max_deliver: report.max_deliver,
                max_ack_pending: report.max_ack_pending,
                bundle: None,
            },
            ConsumerSpec {
                name: consumers::JOBS_MAX_DELIVERIES,
                stream: MAX_DELIVERIES,
                filter: report_advisories,
                ack_wait: ACK_WAIT,
                max_deliver: -1,
                max_ack_pending: MANY,
                bundle: None,
            },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_captures_its_subjects_and_no_others() {
        let results = STANDARD.stream(TRANSACTION_RESULT).unwrap();
        let commands = STANDARD.stream(TRANSACTION).unwrap();
        assert!(results.captures(subjects::RESULT_DEPOSIT));
        assert!(commands.captures(subjects::DEPOSIT));
        for other in [
            "transaction",
            "transaction.",
            "transaction.result",
            "transaction.deposit.more",
            "transaction.result.",
            "transaction.result.>",
            "transaction.result.*",
            "transaction.result.x $JS.API.STREAM.DELETE.job",
            "transaction.result.x\r\nPUB a 0",
            "$JS.API.STREAM.CREATE.planted",
            ">",
            "",
        ] {
            assert!(!results.captures(other) && !commands.captures(other), "{other:?}");
        }
    }
}
