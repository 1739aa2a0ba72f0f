//! A state of the whole system: two databases, the broker, and the memory of
//! every replica.
//!
//! Equivalent situations share one state. Lists without a meaningful order are
//! kept sorted ([`State::sort`]), and so are the replicas.

use crate::money::{
    databases::{Balance, Ledger, Record, RecordId},
    replica::{Delivery, Phase, Replica, ReplicaId, Service},
    scenario::Faults,
    streams::{DeadLetter, Part, Publication, StoredId, StoredMessage, Stream, StreamName},
};

/// The history of a stray message. No process can see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stray {
    /// Not published yet.
    Unsent,
    /// Stored in its stream.
    Sent,
    /// Lost by the broker.
    Lost,
}

/// A state of the system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// `transaction_records` of the account-service's database.
    pub records: Vec<Record>,
    /// `accounts` of the account-service's database: the projected balances.
    pub projected: Vec<Balance>,
    /// The transaction-service's database.
    pub ledger: Ledger,
    /// The stream `TRANSACTION`.
    pub commands: Stream,
    /// The stream `TRANSACTION_RESULT`.
    pub results: Stream,
    /// The stream `DEAD_LETTER`.
    pub dead_letters: Vec<DeadLetter>,
    /// Published messages that have not reached the broker, and may never do so.
    pub in_flight: Vec<Publication>,
    /// The replicas of the account-service.
    pub account_replicas: Vec<Replica>,
    /// The replicas of the transaction-service.
    pub transaction_replicas: Vec<Replica>,
    /// The faults that may still happen.
    pub remaining: Faults,
    /// Whether each record was applied when it was first decided. No process
    /// can see it: it detects changed decisions.
    pub first_decisions: Vec<Option<bool>>,
    /// Whether a decision has changed.
    pub decision_changed: bool,
    /// Whether the broker refuses messages with several parts.
    pub refuses_bundles: bool,
    /// The stray command and the stray result, in this order.
    pub strays: Vec<Stray>,
}

impl State {
    /// The stream of this name.
    #[must_use]
    pub const fn stream(&self, name: StreamName) -> &Stream {
        match name {
            StreamName::Commands => &self.commands,
            StreamName::Results => &self.results,
        }
    }

    /// The stream of this name, for changes.
    pub const fn stream_mut(&mut self, name: StreamName) -> &mut Stream {
        match name {
            StreamName::Commands => &mut self.commands,
            StreamName::Results => &mut self.results,
        }
    }

    /// The replicas of a service.
    #[must_use]
    pub const fn replicas(&self, service: Service) -> &Vec<Replica> {
        match service {
            Service::Account => &self.account_replicas,
            Service::Transaction => &self.transaction_replicas,
        }
    }

    /// A replica, for changes.
    pub fn replica_mut(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        let replicas = match id.service {
            Service::Account => &mut self.account_replicas,
            Service::Transaction => &mut self.transaction_replicas,
        };
        replicas.get_mut(id.index)
    }

    /// The message that a replica is processing.
    #[must_use]
    pub fn delivery(&self, id: ReplicaId) -> Option<Delivery> {
        self.replicas(id.service).get(id.index)?.delivery
    }

    /// The message that a replica is processing, for changes.
    pub fn delivery_mut(&mut self, id: ReplicaId) -> Option<&mut Delivery> {
        self.replica_mut(id)?.delivery.as_mut()
    }

    /// A part of the message that a replica is processing, and its progress.
    #[must_use]
    pub fn part(&self, replica: ReplicaId, index: usize) -> Option<(Part, Phase)> {
        let delivery = self.delivery(replica)?;
        Some((delivery.id.message.parts.get(index)?, delivery.phases.get(index)?))
    }

    /// The progress with a part, for changes.
    pub fn phase_mut(&mut self, replica: ReplicaId, index: usize) -> Option<&mut Phase> {
        self.delivery_mut(replica)?.phases.get_mut(index)
    }

    /// The record of this number.
    #[must_use]
    pub fn record(&self, id: RecordId) -> Option<Record> {
        self.records.get(usize::from(id.0)).copied()
    }

    /// The record of this number, for changes.
    pub fn record_mut(&mut self, id: RecordId) -> Option<&mut Record> {
        self.records.get_mut(usize::from(id.0))
    }

    /// The messages of a stream that are being processed.
    pub fn deliveries(&self, stream: StreamName) -> impl Iterator<Item = &Delivery> {
        let service = match stream {
            StreamName::Commands => Service::Transaction,
            StreamName::Results => Service::Account,
        };
        self.replicas(service).iter().filter_map(|replica| replica.delivery.as_ref())
    }

    /// Whether a worker is processing this message and has yet to acknowledge it.
    #[must_use]
    pub fn is_in_progress(&self, id: &StoredId) -> bool {
        self.deliveries(id.stream)
            .any(|delivery| delivery.id == *id && !delivery.stale && !delivery.acknowledged_early)
    }

    /// Whether the broker waits for the ack of this message.
    #[must_use]
    pub fn awaits_ack(&self, message: &StoredMessage) -> bool {
        !message.advisory_lost && self.is_in_progress(&message.id)
    }

    /// Sorts every list without a meaningful order.
    pub fn sort(&mut self) {
        for replica in self.account_replicas.iter_mut().chain(&mut self.transaction_replicas) {
            replica.sort();
        }
        self.account_replicas.sort_unstable();
        self.transaction_replicas.sort_unstable();
        self.in_flight.sort_unstable();
        self.commands.sort();
        self.results.sort();
        self.dead_letters.sort_unstable();
    }
}
