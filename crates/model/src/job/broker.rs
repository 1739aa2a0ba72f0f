//! The broker's steps: it stores and delivers messages, and loses data.

use super::{
    protocol::Protocol,
    replica::{Delivery, Phase},
    rules::Rule,
    state::{State, Stray},
    stream::{Body, Message, MessageId, StoredId, StoredMessage, Wipe},
};

impl State {
    /// A publication reaches the broker. The broker discards it if its message id is
    /// in the duplicate window.
    pub(crate) fn store_message(&mut self, message: Message) {
        if self.stream.remembered_ids.contains(&message.id) {
            return;
        }
        let mut id = StoredId { message, copy: 0 };
        while self.stream.get(&id).is_some()
            || self.replicas.iter().filter_map(|replica| replica.delivery).any(|d| d.id == id)
            || self.dead_letters.contains(&id)
        {
            id.copy += 1;
        }
        if message.id != MessageId::None {
            self.stream.remembered_ids.push(message.id);
        }
        self.stream.messages.push(StoredMessage {
            id,
            deliveries: 0,
            delayed_for: None,
            held: false,
        });
    }

    /// A dead letter is identified by its message: publishing it twice stores it once.
    pub(crate) fn store_dead_letter(&mut self, id: StoredId) {
        if !self.dead_letters.contains(&id) {
            self.dead_letters.push(id);
        }
    }

    /// The broker loses messages. Dead letters survive, because nothing could create
    /// them again.
    pub(crate) fn wipe(&mut self, wipe: Wipe) {
        let lost = std::mem::take(&mut self.stream.messages);
        if lost.iter().any(|message| message.id.message.body == Body::Stray) {
            self.stray = Stray::Lost;
        }
        // A purge keeps the sequence numbers, so later acks can't go wrong.
        if wipe == Wipe::Everything {
            self.stream.remembered_ids.clear();
            for delivery in self.replicas.iter_mut().filter_map(|replica| replica.delivery.as_mut())
            {
                delivery.stale = true;
            }
        }
    }
}

impl Protocol {
    /// A delivery. If a worker still has the message, its ack wait has ended.
    pub(crate) fn deliver(&self, state: &mut State, replica: usize, id: StoredId) -> Option<()> {
        if state.is_in_progress(&id) && self.keeps(Rule::KeepInProgress) {
            state.remaining.slow_workers = state.remaining.slow_workers.checked_sub(1)?;
        }
        state.stream.get_mut(&id)?.deliveries += 1;
        let delivery = &mut state.replicas.get_mut(replica)?.delivery;
        if delivery.is_some() {
            return None;
        }
        let phase = Phase::Delivered;
        *delivery = Some(Delivery { id, stale: false, acknowledged_early: false, phase });
        Some(())
    }

    /// The broker's clock goes back: the ack waits of delivered messages do not end.
    pub(crate) fn set_clock_back(&self, state: &mut State) -> Option<()> {
        state.remaining.clock_jumps = state.remaining.clock_jumps.checked_sub(1)?;
        for message in &mut state.stream.messages {
            message.held = message.deliveries > 0;
        }
        Some(())
    }

    /// A message that no worker settles any more is dead-lettered if it names no report, and
    /// deleted.
    pub(crate) fn work_off(&self, state: &mut State, id: StoredId) -> Option<()> {
        let names_report = match id.message.body {
            Body::Wake(report) => state
                .report(report)
                .is_some_and(|row| row.status != super::report::Status::NotRequested),
            Body::Stray => false,
        };
        if !names_report {
            state.store_dead_letter(id);
        }
        state.stream.remove(&id);
        Some(())
    }

    /// Acks or terms the message. With `other`, the message was lost, and this message
    /// now has its sequence number.
    pub(crate) fn acknowledge(
        &self,
        state: &mut State,
        replica: usize,
        other: Option<StoredId>,
    ) -> Option<()> {
        let delivery = state.delivery(replica)?;
        if let Some(other) = other {
            state.stream.remove(&other);
        } else if !delivery.stale {
            state.stream.remove(&delivery.id);
        }
        match delivery.phase {
            Phase::Acknowledge => state.replicas.get_mut(replica)?.delivery = None,
            _ => state.delivery_mut(replica)?.acknowledged_early = true,
        }
        Some(())
    }

    /// A message at `max_deliver` is not delivered again.
    pub(crate) fn is_exhausted(&self, message: &StoredMessage) -> bool {
        message.deliveries >= self.scenario.max_deliver
    }
}
