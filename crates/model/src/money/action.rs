//! Every step that a state can take next.

use crate::money::{
    databases::RecordId,
    replica::ReplicaId,
    streams::{Message, Publication, StoredId, StreamName, Wipe},
};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A replica accepts a request: the PENDING record is committed.
    Accept(ReplicaId, RecordId),
    /// A replica publishes a command before it commits the record.
    SendUnrecorded(ReplicaId, RecordId),
    /// The redrive claims a PENDING record.
    Claim(ReplicaId, RecordId),
    /// `dispatch` or the redrive publishes a command.
    Send(ReplicaId, Message),
    /// A worker receives a message.
    Deliver(ReplicaId, StoredId),
    /// A worker receives the advisory about a message at `max_deliver`.
    ReceiveAdvisory(ReplicaId, StoredId),
    /// The sweep of a work queue finds a message at `max_deliver`.
    Sweep(ReplicaId, StoredId),
    /// A worker reads the account and the decision without the lock.
    Read(ReplicaId),
    /// A worker publishes the result before it commits the outcome.
    PublishUncommitted(ReplicaId),
    /// A worker commits its only transaction, to decide or to settle.
    Commit(ReplicaId),
    /// A worker publishes what follows from its commit, and gets the PubAck.
    Publish(ReplicaId),
    /// A worker acks, terms or deletes its message.
    Acknowledge(ReplicaId),
    /// The ack of a lost message removes this other one.
    AcknowledgeOther(ReplicaId, StoredId),
    /// A delayed publication reaches the broker.
    Arrive(Publication),
    /// The publication of a command is delayed.
    DelaySend(ReplicaId, Message),
    /// A worker's publication is delayed: no PubAck arrives.
    DelayPublish(ReplicaId),
    /// A replica crashes and starts again.
    Crash(ReplicaId),
    /// The broker loses data.
    Wipe(Wipe),
    /// The duplicate window of a stream ends.
    ExpireWindow(StreamName),
    /// The advisory about a message at `max_deliver` is lost.
    LoseAdvisory(StoredId),
    /// A stray message is stored.
    SendStray(Message),
}
