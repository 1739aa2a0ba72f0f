//! Messages, and the stream `job` in which the broker stores them.

use super::report::ReportId;

/// The `Nats-Msg-Id` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageId {
    /// The report id.
    Report(ReportId),
    /// `<report id>.<number>`: a message of the redrive.
    Send(ReportId, u8),
    /// No header: a stray message.
    None,
}

/// The content of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// Wakes a worker. Names the report that it was sent for.
    Wake(ReportId),
    /// Can't be parsed, or names no report.
    Stray,
}

/// A message as its publisher sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// For deduplication by the stream.
    pub id: MessageId,
    /// The content.
    pub body: Body,
}

/// Identifies one stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredId {
    /// The message.
    pub message: Message,
    /// Distinguishes stored messages with the same id and body. Starts at 0.
    pub copy: u8,
}

/// A message without an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredMessage {
    /// The identity within the stream.
    pub id: StoredId,
    /// Number of deliveries so far.
    pub deliveries: u8,
    /// Handed back until the delay of this report is over. Occurs only without
    /// [`super::rules::Rule::Requeue`].
    pub delayed_for: Option<ReportId>,
    /// The broker's clock went back since its delivery: it is not redelivered.
    pub held: bool,
}

/// The stream and its consumer `job_cons`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Messages without an acknowledgement.
    pub messages: Vec<StoredMessage>,
    /// The message ids in the duplicate window. It never ends: an end allows more
    /// messages, and the redrive sends such ones anyway.
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
}

/// A loss of data by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wipe {
    /// The stream with its message ids.
    Everything,
    /// The messages, but not their ids: a purge.
    Messages,
}
