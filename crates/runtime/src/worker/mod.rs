//! A worker pulls batches of messages from a durable consumer. A handler decides each
//! message, and the worker settles each delivery by its verdict.
//!
//! The order is always the same: the handler commits, its messages are published
//! and their PubAcks awaited, and only then is the delivery acked. A process that
//! dies in between leaves an unacked message, which is redelivered.
//!
//! [`PullLoop`] only pulls. [`BatchProcessor`] settles batches, [`JobProcessor`] one
//! long job at a time. A message may have several parts, each a delivery of its own for
//! the handler; the message is acked once all of them are settled.

mod batch;
mod dead_letter;
mod delivery;
mod job;
mod kept;
mod locked;
mod max_deliveries;
mod pull;
mod pull_loop;
mod settlement;
mod sweep;
mod unstored;

use std::{fmt, future::Future, time::Duration};

use clap::Args;

pub use batch::BatchProcessor;
pub use delivery::Delivery;
pub use job::{JobHandler, JobProcessor, JobVerdict};
pub use locked::LockedKeys;
pub use max_deliveries::{DeadLetterAll, Exhausted, MaxDeliveries};
pub use pull_loop::{Fetch, ProcessMessages, PullLoop};
pub use sweep::WorkQueue;
pub use unstored::UnstoredLetters;

use crate::{nats::outgoing::Outgoing, postgres};

/// The worker loops.
#[derive(Debug, Clone, Args)]
pub struct WorkerConfig {
    /// Maximum messages of a fetch: 1 to 5000. A fetch asks for fewer if messages have
    /// several parts.
    #[arg(long, env = "PASSBOOK_WORKER_BATCH", default_value_t = 500,
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub worker_batch: u16,
    /// Maximum commands or results in a message that this process publishes: 1 to 100. With
    /// 1, each has a message of its own.
    #[arg(long, env = "PASSBOOK_MESSAGE_PARTS", default_value_t = 100,
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub message_parts: u8,
    /// Worker loops per consumer in this process: 1 to 32.
    #[arg(long, env = "PASSBOOK_WORKERS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=32))]
    pub workers: u8,
}

/// The decision about one delivery.
#[derive(Debug)]
pub enum Verdict {
    /// Decided and committed, now or before: publish this message, then ack.
    Done(Option<Outgoing>),
    /// It can never succeed: dead-letter it with this reason.
    DeadLetter(String),
    /// Its account is locked by another transaction. The worker keeps it and tries again
    /// soon, which uses up no delivery. The others go on.
    Locked,
    /// It asks for these dead letters of another message, and the broker does not store them
    /// now. The worker keeps it, publishes them again, and hands it back once they are stored.
    Unstored {
        letters: Vec<Outgoing>,
        /// The broker's error.
        reason: String,
    },
}

/// Why a batch has no verdicts. Parts of the batch may be committed. When it is
/// processed again, these parts are answered from the store.
#[derive(Debug)]
pub enum Failure {
    /// A store is unreachable or busy. The same batch can succeed later.
    Transient(anyhow::Error),
    /// A row or key stayed locked by another transaction. The worker takes the batch
    /// apart: the others go on.
    Locked(anyhow::Error),
    /// A delivery can't be processed, or there is a bug.
    Other(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Transient(error) | Self::Locked(error) | Self::Other(error)) = self;
        write!(f, "{error:#}")
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        postgres::note(&error);
        if postgres::is_locked(&error) {
            Self::Locked(error.into())
        } else if postgres::is_transient(&error) {
            Self::Transient(error.into())
        } else {
            Self::Other(error.into())
        }
    }
}

impl From<postgres::NoAnswer> for Failure {
    fn from(error: postgres::NoAnswer) -> Self {
        Self::Transient(error.into())
    }
}

/// Decides deliveries.
pub trait Handler: Send + Sync + 'static {
    /// Time limit for one batch. After it, the store counts as unreachable, because
    /// its host may have vanished.
    const TIME_LIMIT: Duration = Duration::from_secs(30);

    /// Decides all deliveries of a batch and commits. Returns one verdict per delivery,
    /// in their order. After an error, parts of the batch may be committed.
    fn process(
        &self,
        batch: &[Delivery],
    ) -> impl Future<Output = Result<Vec<Verdict>, Failure>> + Send;
}
