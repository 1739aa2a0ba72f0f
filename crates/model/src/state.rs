//! What there is at one moment: two databases, which survive everything; the
//! broker; and the memory of every replica, which a crash wipes out.
//!
//! Equal situations have one state: what has no order in reality is kept
//! sorted ([`State::sort`]), replicas included.

use crate::{
    broker::{DeadLetters, Message, Place, Publication, Stored, Stream, StreamName},
    scenario::Faults,
};

/// A record, by its place among the movements of the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub u8);

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u8);

/// What was decided for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The balance moved.
    Applied {
        /// To this.
        balance_after: i8,
        /// As the account's so-manieth transaction.
        account_seq: u8,
    },
    /// It did not.
    Refused,
}

/// A row of `transactions`, and what a result tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transaction {
    /// The ledger's number for it.
    pub id: u8,
    /// Whose outcome it is.
    pub record: RecordId,
    /// The outcome.
    pub outcome: Outcome,
}

/// A row of `transaction_records`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Record {
    /// Not there: no client has asked yet.
    Unasked,
    /// Accepted.
    Pending {
        /// How often its command was sent again.
        redrives: u8,
    },
    /// SUCCESS or FAILED, as this result told.
    Settled(Transaction),
}

/// A balance, and how many transactions led to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Balance {
    /// The money.
    pub amount: i8,
    /// The `account_seq` of the last transaction in it.
    pub seq: u8,
}

/// The transaction-service's database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// `accounts`.
    pub balances: Vec<Balance>,
    /// `transactions`, in the order of their numbers.
    pub transactions: Vec<Transaction>,
}

impl Ledger {
    /// What was decided for a record.
    #[must_use]
    pub fn find(&self, record: RecordId) -> Option<Transaction> {
        self.transactions.iter().find(|it| it.record == record).copied()
    }
}

/// How far a worker is with the message in its hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// It was delivered.
    Taken,
    /// The record was looked for, before its account is locked and moved.
    Read {
        /// The balance at that time; `None` if it is read under the lock.
        balance: Option<Balance>,
        /// What was decided for the record at that time.
        known: Option<Transaction>,
    },
    /// The result is out, the commit is not: only if the outcome is not
    /// committed first.
    Uncommitted,
    /// Decided and committed; this is to be published, and its PubAck awaited.
    Publish {
        /// What is to be published.
        what: Publication,
        /// Whether it was decided before.
        again: bool,
    },
    /// The PubAck is here, or nothing was to be published: let the message go.
    LetGo {
        /// Whether it had nothing new to tell.
        again: bool,
    },
}

/// How a message is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// `Ack`.
    Ack,
    /// `Term`.
    Term,
    /// Deleted from its stream: its deliveries are used up.
    Delete,
}

/// One message in the hand of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hand {
    /// Which message.
    pub place: Place,
    /// The stream was lost since, and counts from one again: an ack may hit
    /// another message.
    pub stale: bool,
    /// It was let go already: only if that did not wait for the end.
    pub gone: bool,
    /// How far the work is.
    pub phase: Phase,
    /// What comes last.
    pub end: End,
}

/// What one process has in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// The message that its worker works on.
    pub hand: Option<Hand>,
    /// Commands that `dispatch` or the redrive are about to publish.
    pub outgoing: Vec<Message>,
    /// Records whose command is out and whose commit is not: only if the
    /// record is not committed first.
    pub uncommitted: Vec<RecordId>,
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
    /// Whose results or commands it consumes.
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
pub struct Who {
    /// Of which service.
    pub service: Service,
    /// Which one; they change places when states are sorted.
    pub index: usize,
}

/// What became of a message from a wrong hand. No process knows this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stray {
    /// Nobody sent it yet.
    Unsent,
    /// It was stored in its stream.
    Sent,
    /// The broker lost it.
    Lost,
}

/// All of it.
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
    pub dead_letters: DeadLetters,
    /// Published, and not at the broker yet, if it ever arrives.
    pub in_flight: Vec<Publication>,
    /// The replicas of the account-service.
    pub account: Vec<Replica>,
    /// The replicas of the transaction-service.
    pub transaction: Vec<Replica>,
    /// Faults that may still happen.
    pub left: Faults,
    /// What was decided first for each record: whether it was applied. No
    /// process knows this; it is here to see whether it changes.
    pub first: Vec<Option<bool>>,
    /// Whether something that was decided has changed.
    pub changed: bool,
    /// What became of the strays.
    pub strays: Vec<Stray>,
}

impl State {
    /// A stream.
    #[must_use]
    pub const fn stream(&self, name: StreamName) -> &Stream {
        match name {
            StreamName::Commands => &self.commands,
            StreamName::Results => &self.results,
        }
    }

    /// A stream, to change it.
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
            Service::Account => &self.account,
            Service::Transaction => &self.transaction,
        }
    }

    /// The replicas of a service, to change them.
    pub const fn replicas_mut(&mut self, service: Service) -> &mut Vec<Replica> {
        match service {
            Service::Account => &mut self.account,
            Service::Transaction => &mut self.transaction,
        }
    }

    /// A replica.
    #[must_use]
    pub fn replica(&self, who: Who) -> Option<&Replica> {
        self.replicas(who.service).get(who.index)
    }

    /// A replica, to change it.
    pub fn replica_mut(&mut self, who: Who) -> Option<&mut Replica> {
        self.replicas_mut(who.service).get_mut(who.index)
    }

    /// The message in a replica's hand.
    #[must_use]
    pub fn hand(&self, who: Who) -> Option<Hand> {
        self.replica(who)?.hand
    }

    /// The message in a replica's hand, to go on with it.
    pub fn hand_mut(&mut self, who: Who) -> Option<&mut Hand> {
        self.replica_mut(who)?.hand.as_mut()
    }

    /// A record.
    #[must_use]
    pub fn record(&self, id: RecordId) -> Option<Record> {
        self.records.get(usize::from(id.0)).copied()
    }

    /// A record, to change it.
    pub fn record_mut(&mut self, id: RecordId) -> Option<&mut Record> {
        self.records.get_mut(usize::from(id.0))
    }

    /// The hands of the workers that consume a stream.
    pub fn hands(&self, stream: StreamName) -> impl Iterator<Item = &Hand> {
        let service = match stream {
            StreamName::Commands => Service::Transaction,
            StreamName::Results => Service::Account,
        };
        self.replicas(service).iter().filter_map(|replica| replica.hand.as_ref())
    }

    /// Whether somebody works on this message.
    #[must_use]
    pub fn is_held(&self, place: &Place) -> bool {
        self.hands(place.stream).any(|hand| hand.place == *place && !hand.stale && !hand.gone)
    }

    /// Whether somebody works on this message, as far as the broker knows: it
    /// waits for an ack.
    #[must_use]
    pub fn is_awaited(&self, stored: &Stored) -> bool {
        !stored.unheard && self.is_held(&stored.place)
    }

    /// Puts what has no order into one.
    pub fn sort(&mut self) {
        for replica in self.account.iter_mut().chain(&mut self.transaction) {
            replica.outgoing.sort_unstable();
            replica.uncommitted.sort_unstable();
        }
        self.account.sort_unstable();
        self.transaction.sort_unstable();
        self.in_flight.sort_unstable();
        self.commands.sort();
        self.results.sort();
        self.dead_letters.sort_unstable();
    }
}
