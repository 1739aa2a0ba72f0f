//! The streams and consumers, as one table. Retention, acknowledgement and
//! limits are part of the protocol; replicas and placement are configuration
//! of whoever creates them.

use std::time::Duration;

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
    /// Which records were just settled. Not persisted: account-services tell
    /// each other, so that a waiting client hears at once.
    pub const SETTLED: &str = "account.settled";
    /// Before the name of the stream and the consumer that a dead letter
    /// comes from.
    pub const DEAD_LETTER_PREFIX: &str = "dead-letter";
}

/// When a stream lets go of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Once it is acked, or at its age.
    WorkQueue,
    /// At its age.
    Limits,
}

/// One stream. Storage is always on file, a full stream refuses new messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// The subjects it captures.
    pub subjects: &'static [&'static str],
    /// When it lets go of a message.
    pub retention: Retention,
    /// The age at which a message goes, whatever became of it.
    pub max_age: Duration,
    /// How long a `Nats-Msg-Id` is remembered. In memory for every message:
    /// short.
    pub duplicate_window: Duration,
}

/// One durable pull consumer with explicit acks, delivering all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Its durable name.
    pub name: &'static str,
    /// The stream it reads.
    pub stream: &'static str,
    /// The subjects it takes.
    pub filter: &'static str,
    /// How long a delivered message may stay unacked before it comes again.
    pub ack_wait: Duration,
    /// How often a message is delivered at most; -1: until it is settled.
    pub max_deliver: i64,
    /// How many messages all its workers may hold unacked together.
    pub max_ack_pending: i64,
}

/// Names of the durable consumers.
pub mod consumers {
    /// The transaction-service's, of deposits.
    pub const DEPOSIT: &str = "deposit-consumer";
    /// The transaction-service's, of withdrawals.
    pub const WITHDRAWAL: &str = "withdrawal-consumer";
    /// The account-service's, of results.
    pub const ACCOUNT_RESULT: &str = "account-result-consumer";
    /// The transaction-service's, of advisories about its commands.
    pub const COMMANDS_USED_UP: &str = "commands-used-up-consumer";
    /// The account-service's, of advisories about its results.
    pub const RESULTS_USED_UP: &str = "results-used-up-consumer";
    /// The report-service's, of jobs.
    pub const JOB: &str = "job_cons";
}

/// The stream of commands.
pub const TRANSACTION: &str = "TRANSACTION";
/// The stream of results.
pub const TRANSACTION_RESULT: &str = "TRANSACTION_RESULT";
/// The stream of what could not be processed.
pub const DEAD_LETTER: &str = "DEAD_LETTER";
/// The stream of the server's advisories about messages that it delivers no
/// more, because their deliveries are used up.
pub const USED_UP: &str = "USED_UP";
const JOB: &str = "job";
/// The streams that a movement's way goes through: both services set them up.
pub const MOVEMENT_STREAMS: [&str; 4] = [TRANSACTION, TRANSACTION_RESULT, DEAD_LETTER, USED_UP];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Room for the batches of many replicas: 20 workers with 500 in hand and
/// 500 on the way.
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
        subjects: &["message.process"],
        retention: Retention::WorkQueue,
        max_age: DAY.saturating_mul(7),
        duplicate_window: DUPLICATE_WINDOW,
    },
    StreamSpec {
        name: DEAD_LETTER,
        subjects: &["dead-letter.>"],
        // A work queue could not be browsed.
        retention: Retention::Limits,
        max_age: DAY.saturating_mul(90),
        duplicate_window: DUPLICATE_WINDOW,
    },
    StreamSpec {
        name: USED_UP,
        subjects: &["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"],
        retention: Retention::WorkQueue,
        max_age: DAY.saturating_mul(90),
        duplicate_window: DUPLICATE_WINDOW,
    },
];

/// Every durable consumer.
pub const CONSUMERS: [ConsumerSpec; 6] = [
    ConsumerSpec {
        name: consumers::DEPOSIT,
        stream: TRANSACTION,
        filter: subjects::DEPOSIT,
        ack_wait: ACK_WAIT,
        max_deliver: 3,
        max_ack_pending: MANY,
    },
    ConsumerSpec {
        name: consumers::WITHDRAWAL,
        stream: TRANSACTION,
        filter: subjects::WITHDRAWAL,
        ack_wait: ACK_WAIT,
        max_deliver: 3,
        max_ack_pending: MANY,
    },
    ConsumerSpec {
        name: consumers::ACCOUNT_RESULT,
        stream: TRANSACTION_RESULT,
        filter: "transaction.result.>",
        ack_wait: ACK_WAIT,
        max_deliver: 3,
        max_ack_pending: MANY,
    },
    ConsumerSpec {
        name: consumers::COMMANDS_USED_UP,
        stream: USED_UP,
        filter: "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION.*",
        ack_wait: ACK_WAIT,
        // There is nothing behind this one: it is delivered until it is settled.
        max_deliver: -1,
        max_ack_pending: MANY,
    },
    ConsumerSpec {
        name: consumers::RESULTS_USED_UP,
        stream: USED_UP,
        filter: "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION_RESULT.*",
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        max_ack_pending: MANY,
    },
    ConsumerSpec {
        name: consumers::JOB,
        stream: JOB,
        filter: "message.process",
        ack_wait: ACK_WAIT,
        max_deliver: 5,
        // One job at a time, whatever the number of workers.
        max_ack_pending: 1,
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
