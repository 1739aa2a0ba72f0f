//! Messages, and the streams in which the broker stores them.

use crate::money::{
    databases::{RecordId, Transaction},
    parts::Parts,
};

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

/// The message id of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageId {
    /// The record id.
    Record(RecordId),
    /// `<record id>.<attempt>`: a redrive.
    Attempt(RecordId, u8),
    /// No id: the stray part of a stray message.
    None,
}

/// The content of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// Requests the effect of this record.
    Command(RecordId),
    /// Reports this decision.
    Result(Transaction),
    /// Can't be parsed.
    Unreadable,
}

/// A command or a result within a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The part's own message id.
    pub id: MessageId,
    /// The content.
    pub body: Body,
}

/// The `Nats-Msg-Id` header, for deduplication by the stream: a digest of the ids
/// of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub Parts<MessageId>);

/// A message as its publisher sends it: a single part, or several as a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// Sorted: their order has no meaning.
    pub parts: Parts<Part>,
}

impl Message {
    /// A message with these parts.
    #[must_use]
    pub fn of(parts: impl IntoIterator<Item = Part>) -> Self {
        Self { parts: Parts::from_iter(parts).sorted() }
    }

    /// Whether the message has several parts.
    #[must_use]
    pub fn is_bundle(&self) -> bool {
        self.parts.len() > 1
    }

    /// Whether a part has no message id.
    #[must_use]
    pub fn is_stray(&self) -> bool {
        self.parts.any(|part| part.id == MessageId::None)
    }

    /// The digest of its ids. `None`: a stray message has no header.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        (!self.is_stray()).then(|| Digest(self.parts.iter().map(|part| part.id).collect()))
    }
}

/// A dead letter: one part of a stored message. Its identity is that of a dead
/// letter's id: publishing it twice stores it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeadLetter {
    /// The message.
    pub message: StoredId,
    /// Its part, now in the form of a single message.
    pub part: Part,
}

/// Identifies one stored message, as stream, sequence number and time do in the
/// id of a dead letter.
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
    /// Commands or results.
    Message(Message),
    /// A dead letter.
    DeadLetter(DeadLetter),
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

impl StoredMessage {
    /// The parts of the message.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.id.message.parts.iter()
    }
}

/// A stream and its only consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Messages without an acknowledgement.
    pub messages: Vec<StoredMessage>,
    /// The headers in the duplicate window.
    pub remembered_ids: Vec<Digest>,
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
