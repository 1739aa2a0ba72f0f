//! The memory of one replica. A crash clears it.

use crate::money::{
    databases::{Balance, RecordId, Transaction},
    parts::Parts,
    streams::{Part, StoredId, StreamName},
};

/// The progress of a worker with one part of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing is done yet.
    Delivered,
    /// The database was read before the account's row was locked.
    Read {
        /// The balance at that time. `None`: the balance is read under the lock.
        balance: Option<Balance>,
        /// The record's stored transaction at that time.
        decided: Option<Transaction>,
    },
    /// The result is published and the outcome is not committed. Occurs only
    /// without [`crate::money::rules::Rule::OutcomeBeforeResult`].
    PublishedUncommitted,
    /// The outcome is committed. Next, the result is published, alone or together
    /// with others, and its PubAck awaited.
    PublishResult {
        /// The result.
        result: Part,
        /// The outcome was stored before this delivery.
        duplicate: bool,
    },
    /// The part can't be processed. Next, its dead letter is published and its
    /// PubAck awaited.
    PublishDeadLetter,
    /// The PubAck arrived, or nothing had to be published. Nothing is
    /// left to do for the part.
    Done {
        /// The part changed nothing.
        duplicate: bool,
    },
}

impl Phase {
    /// Whether nothing is left to do for the part.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }
}

/// How a worker ends its work on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Acknowledgement {
    /// `Ack`.
    Ack,
    /// `Term`.
    Term,
    /// Deletion from the stream, after `max_deliver` deliveries.
    Delete,
}

/// A message that a worker is processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Delivery {
    /// The message.
    pub id: StoredId,
    /// The stream was lost and counts from 1 again: an ack may now remove
    /// another message.
    pub stale: bool,
    /// The message is acknowledged, and the work goes on. Occurs only without
    /// one of the rules about the order of both.
    pub acknowledged_early: bool,
    /// The progress with each part.
    pub phases: Parts<Phase>,
    /// The last step.
    pub acknowledgement: Acknowledgement,
}

impl Delivery {
    /// Each part with its progress.
    pub fn parts(&self) -> impl Iterator<Item = (Part, Phase)> {
        self.id.message.parts.iter().zip(self.phases.iter())
    }

    /// Whether nothing is left to do for any part.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phases.all(|phase| phase.is_done())
    }
}

/// The memory of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// The message that the worker is processing.
    pub delivery: Option<Delivery>,
    /// Commands for `dispatch` or the redrive to publish.
    pub outgoing: Vec<Part>,
    /// Records with a published command and without a commit. Occurs only
    /// without [`crate::money::rules::Rule::RecordBeforeCommand`].
    pub uncommitted: Vec<RecordId>,
}

impl Replica {
    /// Sorts both lists: their order has no meaning.
    pub fn sort(&mut self) {
        self.outgoing.sort_unstable();
        self.uncommitted.sort_unstable();
    }
}

/// One of the two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// The account-service.
    Account,
    /// The transaction-service.
    Transaction,
}

impl Service {
    /// Both services.
    pub const ALL: [Self; 2] = [Self::Account, Self::Transaction];

    /// The stream that the service consumes.
    #[must_use]
    pub const fn consumes(self) -> StreamName {
        match self {
            Self::Account => StreamName::Results,
            Self::Transaction => StreamName::Commands,
        }
    }
}

/// One replica of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId {
    /// The service.
    pub service: Service,
    /// The position among its replicas. Sorting a state changes it.
    pub index: usize,
}
