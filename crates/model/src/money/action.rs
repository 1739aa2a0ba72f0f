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
    /// `dispatch` or the redrive publishes commands.
    Send(ReplicaId, Message),
    /// A worker receives a message.
    Deliver(ReplicaId, StoredId),
    /// A worker receives the advisory about a message at `max_deliver`.
    ReceiveAdvisory(ReplicaId, StoredId),
    /// The sweep of a work queue finds a message at `max_deliver`.
    Sweep(ReplicaId, StoredId),
    /// A worker reads the account and the decision of a part without the lock.
    Read(ReplicaId, usize),
    /// A worker publishes the result of a part before it commits the outcome.
    PublishUncommitted(ReplicaId, usize),
    /// A worker decides or settles a part. It finds a part that can't be processed.
    Commit(ReplicaId, usize),
    /// A worker publishes results or a dead letter, and gets the PubAck.
    Publish(ReplicaId, Publication),
    /// A worker acks, terms or deletes its message.
    Acknowledge(ReplicaId),
    /// The ack of a lost message removes this other one.
    AcknowledgeOther(ReplicaId, StoredId),
    /// A delayed publication reaches the broker.
    Arrive(Publication),
    /// The publication of commands is delayed.
    DelaySend(ReplicaId, Message),
    /// A worker's publication is delayed: no PubAck arrives.
    DelayPublish(ReplicaId, Publication),
    /// A replica crashes and starts again.
    Crash(ReplicaId),
    /// The broker loses data.
    Wipe(Wipe),
    /// The duplicate window of a stream ends.
    ExpireWindow(StreamName),
    /// The advisory about a message at `max_deliver` is lost.
    LoseAdvisory(StoredId),
    /// From now on, the broker refuses messages with several parts.
    LowerLimit,
    /// Another transaction holds the account of a part.
    FindLocked(ReplicaId, usize),
    /// The stream of results discards this message.
    Discard(StoredId),
    /// A stray message is stored.
    SendStray(Message),
}
