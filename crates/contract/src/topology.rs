//! The table of streams and consumers. Retention, acknowledgement and limits
//! are part of the protocol. Replicas and placement are configuration.

use std::time::Duration;

use crate::bundle::Bundle;

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
    /// Wakes a worker of the report-service: [`crate::Job`].
    pub const JOB: &str = "message.process";
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

/// A stream. Storage is always file; a full stream rejects new messages.
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
    /// The server ignores a repeated `Nats-Msg-Id` within this time. Short, because
    /// the server keeps every id in memory.
    pub duplicate_window: Duration,
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
    /// Report jobs, read by the report-service.
    pub const JOB: &str = "job_cons";
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
/// The stream of report jobs.
pub const JOB: &str = "job";
/// The streams behind a deposit or withdrawal. Both services create them.
pub const MOVEMENT_STREAMS: [&str; 4] =
    [TRANSACTION, TRANSACTION_RESULT, DEAD_LETTER, MAX_DELIVERIES];
/// The streams behind a report. The report-service creates them.
pub const REPORT_STREAMS: [&str; 3] = [JOB, DEAD_LETTER, MAX_DELIVERIES];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Room for the batches of 20 workers: each has 500 messages in process and
/// 500 in delivery.
const MANY: i64 = 20_000;

/// Every stream.
pub const STREAMS: [StreamSpec; 5] = [
    StreamSpec {
        name: TRANSACTION,
        subjects: &[subjects::DEPOSIT, subjects::WITHDRAWAL],
        retention: Retention::WorkQueue,
        max_age: DAY.saturating_mul(7),
        duplicate_window: DUPLICATE_WINDOW,
    },
    StreamSpec {
        name: TRANSACTION_RESULT,
        subjects: &["transaction.result.>"],
        retention: Retention::Limits,
        max_age: DAY.saturating_mul(7),
        duplicate_window: DUPLICATE_WINDOW,
    },
    StreamSpec {
        name: JOB,
        subjects: &[subjects::JOB],
        retention: Retention::WorkQueue,
        max_age: DAY.saturating_mul(7),
        duplicate_window: DUPLICATE_WINDOW,
    },
    StreamSpec {
        name: DEAD_LETTER,
        subjects: &["dead-letter.>"],
        // A work queue can't be browsed.
        retention: Retention::Limits,
        max_age: DAY.saturating_mul(90),
        duplicate_window: DUPLICATE_WINDOW,
    },
    StreamSpec {
        name: MAX_DELIVERIES,
        subjects: &["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"],
        retention: Retention::WorkQueue,
        max_age: DAY.saturating_mul(90),
        duplicate_window: DUPLICATE_WINDOW,
    },
];

/// Every durable consumer.
pub const CONSUMERS: [ConsumerSpec; 7] = [
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
        name: consumers::JOB,
        stream: JOB,
        filter: subjects::JOB,
        ack_wait: ACK_WAIT,
        max_deliver: 5,
        // One job at a time, whatever the number of workers.
        max_ack_pending: 1,
        bundle: None,
    },
    ConsumerSpec {
        name: consumers::JOBS_MAX_DELIVERIES,
        stream: MAX_DELIVERIES,
        filter: "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.job.*",
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        max_ack_pending: MANY,
        bundle: None,
    },
];

impl StreamSpec {
    /// The stream with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        STREAMS.iter().find(|stream| stream.name == name)
    }
}

impl ConsumerSpec {
    /// The consumer with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CONSUMERS.iter().find(|consumer| consumer.name == name)
    }
}
