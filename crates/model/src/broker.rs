//! The broker: streams, what they remember, and what a wipe takes.

use crate::state::{RecordId, State, Stray, Transaction};

/// A stream that somebody consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamName {
    /// `TRANSACTION`.
    Commands,
    /// `TRANSACTION_RESULT`.
    Results,
}

/// A `Nats-Msg-Id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageId {
    /// The record's.
    Record(RecordId),
    /// `<record>.<attempt>`: a redrive's.
    Attempt(RecordId, u8),
    /// None: a stray's.
    None,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// Move the money of this record.
    Command(RecordId),
    /// This was decided.
    Result(Transaction),
    /// Nothing that anybody can read.
    Unreadable,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its body.
    pub body: Body,
}

/// A stored message and no other: the `place` that a dead letter is named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Its stream.
    pub stream: StreamName,
    /// What is stored.
    pub message: Message,
    /// Which of those that say the same under the same id.
    pub copy: u8,
}

/// A message on its way into a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Publication {
    /// A command or a result.
    Message(Message),
    /// The message at this place, as a dead letter.
    DeadLetter(Place),
}

/// Which messages are dead letters. Their id is their place: twice is once.
pub type DeadLetters = Vec<Place>;

/// A message that the consumer has not let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stored {
    /// Which.
    pub place: Place,
    /// How often it was delivered.
    pub deliveries: u8,
    /// Its deliveries are used up, and the advisory about it was lost.
    pub unheard: bool,
}

/// A stream and its one consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Stream {
    /// What the consumer has yet to see acked.
    pub stored: Vec<Stored>,
    /// The message ids within the duplicate window.
    pub remembered: Vec<MessageId>,
}

impl Stream {
    /// Finds a message.
    pub fn get_mut(&mut self, place: &Place) -> Option<&mut Stored> {
        self.stored.iter_mut().find(|it| it.place == *place)
    }

    /// Whether the message is there.
    #[must_use]
    pub fn holds(&self, place: &Place) -> bool {
        self.stored.iter().any(|it| it.place == *place)
    }

    /// Lets go of a message, if it is there.
    pub fn remove(&mut self, place: &Place) {
        self.stored.retain(|it| it.place != *place);
    }

    /// Puts what has no order into one.
    pub fn sort(&mut self) {
        self.stored.sort_unstable();
        self.remembered.sort_unstable();
    }
}

/// What is lost at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wipe {
    /// Both streams, and the ids that they remember: the store is gone.
    Everything,
    /// One stream and its ids: it was deleted and made again.
    Stream(StreamName),
    /// The messages of one stream, whose ids are still remembered: a purge.
    Messages(StreamName),
}

impl Wipe {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Everything,
        Self::Stream(StreamName::Commands),
        Self::Stream(StreamName::Results),
        Self::Messages(StreamName::Commands),
        Self::Messages(StreamName::Results),
    ];
}

impl State {
    /// A publication arrives at the broker, which stores it unless it
    /// remembers its id.
    pub fn store(&mut self, publication: Publication) {
        let message = match publication {
            Publication::DeadLetter(place) => {
                if !self.dead_letters.contains(&place) {
                    self.dead_letters.push(place);
                }
                return;
            }
            Publication::Message(message) => message,
        };
        let name = match message.body {
            Body::Command(_) | Body::Unreadable => StreamName::Commands,
            Body::Result(_) => StreamName::Results,
        };
        if self.stream(name).remembered.contains(&message.id) {
            return;
        }
        let place = self.free_place(name, message);
        let stream = self.stream_mut(name);
        if message.id != MessageId::None {
            stream.remembered.push(message.id);
        }
        stream.stored.push(Stored { place, deliveries: 0, unheard: false });
    }

    /// A place that nobody can take for another one.
    fn free_place(&self, stream: StreamName, message: Message) -> Place {
        let mut place = Place { stream, message, copy: 0 };
        while self.stream(stream).holds(&place)
            || self.hands(stream).any(|hand| hand.place == place)
            || self.dead_letters.contains(&place)
        {
            place.copy += 1;
        }
        place
    }

    /// The broker loses what it holds, acknowledged or not. The dead letters
    /// stay: nothing else knows of them.
    pub fn wipe(&mut self, wipe: Wipe) {
        let (streams, ids) = match wipe {
            Wipe::Everything => (vec![StreamName::Commands, StreamName::Results], true),
            Wipe::Stream(name) => (vec![name], true),
            Wipe::Messages(name) => (vec![name], false),
        };
        for name in streams {
            let stream = self.stream_mut(name);
            if ids {
                stream.remembered.clear();
            }
            let lost = std::mem::take(&mut stream.stored);
            for stored in &lost {
                self.lose_stray(&stored.place);
            }
            // A purge leaves the sequence numbers as they are.
            for replica in self.account.iter_mut().chain(&mut self.transaction).filter(|_| ids) {
                if let Some(hand) = replica.hand.as_mut().filter(|hand| hand.place.stream == name) {
                    hand.stale = true;
                }
            }
        }
    }

    /// Notes that a stray, if it is one, is no more.
    fn lose_stray(&mut self, place: &Place) {
        if place.message.id == MessageId::None {
            let at = usize::from(place.stream == StreamName::Results);
            if let Some(stray) = self.strays.get_mut(at) {
                *stray = Stray::Lost;
            }
        }
    }
}
