//! The broker's steps: it stores publications, and loses data.

use crate::money::{
    state::{State, Stray},
    streams::{Body, Message, MessageId, Publication, StoredId, StoredMessage, StreamName, Wipe},
};

impl State {
    /// A process publishes. With `delayed`, the PubAck does not arrive in time,
    /// and the publication arrives later or never.
    pub(crate) fn publish(&mut self, publication: Publication, delayed: bool) -> Option<()> {
        if delayed {
            self.remaining.delayed_publications =
                self.remaining.delayed_publications.checked_sub(1)?;
            self.in_flight.push(publication);
        } else {
            self.store(publication);
        }
        Some(())
    }

    /// A publication reaches the broker. The broker discards it if its message
    /// id is in the duplicate window.
    pub fn store(&mut self, publication: Publication) {
        let message = match publication {
            Publication::DeadLetter(id) => {
                if !self.dead_letters.contains(&id) {
                    self.dead_letters.push(id);
                }
                return;
            }
            Publication::Message(message) => message,
        };
        let name = match message.body {
            Body::Command(_) | Body::Unreadable => StreamName::Commands,
            Body::Result(_) => StreamName::Results,
        };
        if self.stream(name).remembered_ids.contains(&message.id) {
            return;
        }
        let id = self.unused_id(name, message);
        let stream = self.stream_mut(name);
        if message.id != MessageId::None {
            stream.remembered_ids.push(message.id);
        }
        stream.messages.push(StoredMessage { id, delivery_count: 0, advisory_lost: false });
    }

    /// An identity that no stored message, delivery or dead letter has.
    fn unused_id(&self, stream: StreamName, message: Message) -> StoredId {
        let mut id = StoredId { stream, message, copy: 0 };
        while self.stream(stream).get(&id).is_some()
            || self.deliveries(stream).any(|delivery| delivery.id == id)
            || self.dead_letters.contains(&id)
        {
            id.copy += 1;
        }
        id
    }

    /// The broker loses data, acknowledged or not. Dead letters survive, because
    /// nothing could create them again.
    pub fn wipe(&mut self, wipe: Wipe) {
        let (streams, with_ids) = match wipe {
            Wipe::Everything => (StreamName::ALL.to_vec(), true),
            Wipe::Stream(name) => (vec![name], true),
            Wipe::Messages(name) => (vec![name], false),
        };
        for name in streams {
            let stream = self.stream_mut(name);
            if with_ids {
                stream.remembered_ids.clear();
            }
            let lost = std::mem::take(&mut stream.messages);
            for message in &lost {
                self.note_lost_stray(&message.id);
            }
            // A purge keeps the sequence numbers, so later acks can't go wrong.
            if with_ids {
                let replicas =
                    self.account_replicas.iter_mut().chain(&mut self.transaction_replicas);
                let deliveries = replicas.filter_map(|replica| replica.delivery.as_mut());
                for delivery in deliveries.filter(|delivery| delivery.id.stream == name) {
                    delivery.stale = true;
                }
            }
        }
    }

    fn note_lost_stray(&mut self, id: &StoredId) {
        if id.message.id == MessageId::None {
            let index = usize::from(id.stream == StreamName::Results);
            if let Some(stray) = self.strays.get_mut(index) {
                *stray = Stray::Lost;
            }
        }
    }
}
