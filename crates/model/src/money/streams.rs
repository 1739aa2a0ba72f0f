//! Messages, and the streams in which the broker stores them.

use crate::money::databases::{RecordId, Transaction};

/// A stream with a consumer. `DEAD_LETTER` has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamName {
    /// `TRANSACTION`.
    Commands,
    /// `TRANSACTION_RESULT`.
    Results,
}

impl StreamName {
    /// Both streams.
    pub const ALL: [Self; 2] = [Self::Commands, Self::Results];
}

/// The `Nats-Msg-Id` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageId {
    /// The record id.
    Record(RecordId),
    /// `<record id>.<attempt>`: a redrive.
    Attempt(RecordId, u8),
    /// No header: a stray message.
    None,
}

/// The content of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// Requests the effect of this record.
    Command(RecordId),
    /// Reports this decision.
    Result(Transaction),
    /// Can't be parsed.
    Unreadable,
}

/// A message as its publisher sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// For deduplication by the stream.
    pub id: MessageId,
    /// The content.
    pub body: Body,
}

/// Identifies one stored message, as stream, sequence number and time do for
/// the id of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredId {
    /// The stream.
    pub stream: StreamName,
    /// The message.
    pub message: Message,
    /// Distinguishes stored messages with the same id and body. Starts at 0.
    pub copy: u8,
}

/// A message on its way into a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Publication {
    /// A command or a result.
    Message(Message),
    /// A dead letter about this stored message.
    DeadLetter(StoredId),
}

/// A message that the consumer still has to deliver or see acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredMessage {
    /// The identity within all streams.
    pub id: StoredId,
    /// Number of deliveries so far.
    pub delivery_count: u8,
    /// `max_deliver` is reached, and the advisory about it was lost.
    pub advisory_lost: bool,
}

/// A stream and its only consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Messages without an acknowledgement.
    pub messages: Vec<StoredMessage>,
    /// The message ids in the duplicate window.
    pub remembered_ids: Vec<MessageId>,
}

impl Stream {
    /// The message, if it is stored.
    #[must_use]
    pub fn get(&self, id: &StoredId) -> Option<&StoredMessage> {
        self.messages.iter().find(|message| message.id == *id)
    }

    /// The message, if it is stored.
    pub fn get_mut(&mut self, id: &StoredId) -> Option<&mut StoredMessage> {
        self.messages.iter_mut().find(|message| message.id == *id)
    }

    /// Removes a message, if it is stored.
    pub fn remove(&mut self, id: &StoredId) {
        self.messages.retain(|message| message.id != *id);
    }

    /// Sorts both lists: their order has no meaning.
    pub fn sort(&mut self) {
        self.messages.sort_unstable();
        self.remembered_ids.sort_unstable();
    }
}

/// A loss of data by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wipe {
    /// Both streams with their message ids: the store is gone.
    Everything,
    /// One stream with its message ids: it was deleted and created again.
    Stream(StreamName),
    /// The messages of one stream, but not their ids: a purge.
    Messages(StreamName),
}

impl Wipe {
    /// Every possible loss.
    pub const ALL: [Self; 5] = [
        Self::Everything,
        Self::Stream(StreamName::Commands),
        Self::Stream(StreamName::Results),
        Self::Messages(StreamName::Commands),
        Self::Messages(StreamName::Results),
    ];
}
