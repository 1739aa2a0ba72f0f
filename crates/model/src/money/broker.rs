//! The broker's steps: it stores publications, and loses data.

use crate::money::{
    parts::Parts,
    protocol::Protocol,
    rules::Rule,
    state::{State, Stray},
    streams::{Body, Digest, Message, Publication, StoredId, StoredMessage, StreamName, Wipe},
};

impl Protocol {
    /// A process publishes. With `delayed`, the PubAck does not arrive in time,
    /// and the publication arrives later or never.
    pub(crate) fn send_to_broker(
        &self,
        state: &mut State,
        publication: Publication,
        delayed: bool,
    ) -> Option<()> {
        if delayed {
            state.remaining.delayed_publications =
                state.remaining.delayed_publications.checked_sub(1)?;
            state.in_flight.push(publication);
        } else {
            self.store(state, publication);
        }
        Some(())
    }

    /// Whether the broker refuses a message for its size.
    pub(crate) fn is_refused(&self, state: &State, message: &Message) -> bool {
        // A stray publisher's message is of any size.
        state.refuses_bundles && message.is_bundle() && !message.is_stray()
    }

    /// A publication reaches the broker. The broker discards it if its header is
    /// in the duplicate window, and refuses it if it is too large.
    pub(crate) fn store(&self, state: &mut State, publication: Publication) {
        let message = match publication {
            Publication::DeadLetter(dead_letter) => {
                if !state.dead_letters.contains(&dead_letter) {
                    state.dead_letters.push(dead_letter);
                }
                return;
            }
            Publication::Message(message) => message,
        };
        if self.is_refused(state, &message) {
            return;
        }
        let results = message.parts.any(|part| matches!(part.body, Body::Result(_)));
        let name = if results { StreamName::Results } else { StreamName::Commands };
        let header = self.header(&message);
        if header.is_some_and(|header| state.stream(name).remembered_ids.contains(&header)) {
            return;
        }
        let id = state.unused_id(name, message);
        let stream = state.stream_mut(name);
        stream.remembered_ids.extend(header);
        stream.messages.push(StoredMessage { id, delivery_count: 0, advisory_lost: false });
    }

    /// The `Nats-Msg-Id` of a message: the digest, or the id of its first part.
    fn header(&self, message: &Message) -> Option<Digest> {
        let digest = message.digest()?;
        if self.keeps(Rule::DigestMessageId) {
            return Some(digest);
        }
        Some(Digest(Parts::single(digest.0.get(0)?)))
    }
}

impl State {
    /// An identity that no stored message, delivery or dead letter has.
    fn unused_id(&self, stream: StreamName, message: Message) -> StoredId {
        let mut id = StoredId { stream, message, copy: 0 };
        while self.stream(stream).get(&id).is_some()
            || self.deliveries(stream).any(|delivery| delivery.id == id)
            || self.dead_letters.iter().any(|dead_letter| dead_letter.message == id)
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

    /// The stream of results removes its oldest message. It has no order here: any message
    /// may be the oldest.
    pub fn discard(&mut self, id: &StoredId) {
        self.note_lost_stray(id);
        self.results.remove(id);
    }

    fn note_lost_stray(&mut self, id: &StoredId) {
        if id.message.is_stray() {
            let index = usize::from(id.stream == StreamName::Results);
            if let Some(stray) = self.strays.get_mut(index) {
                *stray = Stray::Lost;
            }
        }
    }
}
