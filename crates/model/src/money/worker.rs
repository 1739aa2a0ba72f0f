//! The worker loop of both services: receive a message, commit, publish and
//! await the PubAck, acknowledge.

use crate::money::{
    protocol::Protocol,
    replica::{Acknowledgement, Delivery, Phase, ReplicaId},
    rules::Rule,
    state::State,
    streams::{Body, Publication, StoredId},
};

impl Protocol {
    /// A delivery. If another worker is still processing the message, its ack
    /// wait has ended.
    pub(crate) fn deliver(
        &self,
        state: &mut State,
        replica: ReplicaId,
        id: StoredId,
    ) -> Option<()> {
        self.end_ack_wait(state, &id)?;
        state.stream_mut(id.stream).get_mut(&id)?.delivery_count += 1;
        self.hold(state, replica, id, Phase::Delivered, Acknowledgement::Ack)
    }

    /// A message at `max_deliver` is dead-lettered. Either its advisory or the
    /// sweep finds it. The advisory is stored and redelivered until it is
    /// processed; the sweep runs again and again.
    pub(crate) fn dead_letter_exhausted(
        &self,
        state: &mut State,
        replica: ReplicaId,
        id: StoredId,
    ) -> Option<()> {
        self.end_ack_wait(state, &id)?;
        let publication = Publication::DeadLetter(id);
        let phase = Phase::Publish { publication, duplicate: false };
        self.hold(state, replica, id, phase, Acknowledgement::Delete)
    }

    /// Uses up one slow worker, if a worker is processing the message.
    fn end_ack_wait(&self, state: &mut State, id: &StoredId) -> Option<()> {
        let message = state.stream(id.stream).get(id)?;
        if state.awaits_ack(message) {
            state.remaining.slow_workers = state.remaining.slow_workers.checked_sub(1)?;
        }
        Some(())
    }

    fn hold(
        &self,
        state: &mut State,
        replica: ReplicaId,
        id: StoredId,
        phase: Phase,
        acknowledgement: Acknowledgement,
    ) -> Option<()> {
        let delivery = &mut state.replica_mut(replica)?.delivery;
        if delivery.is_some() {
            return None;
        }
        *delivery =
            Some(Delivery { id, stale: false, acknowledged_early: false, phase, acknowledgement });
        Some(())
    }

    /// A command is decided, a result is settled, and an unreadable message is
    /// dead-lettered.
    pub(crate) fn commit(&self, state: &mut State, replica: ReplicaId) -> Option<()> {
        let id = state.delivery(replica)?.id;
        match id.message.body {
            Body::Command(record) => self.decide(state, replica, record)?,
            Body::Result(result) => self.settle(state, replica, result)?,
            Body::Unreadable => {
                let delivery = state.delivery_mut(replica)?;
                if self.keeps(Rule::DeadLetter) {
                    let publication = Publication::DeadLetter(id);
                    delivery.phase = Phase::Publish { publication, duplicate: false };
                    delivery.acknowledgement = Acknowledgement::Term;
                } else {
                    delivery.phase = Phase::Acknowledge { duplicate: true };
                }
            }
        }
        self.end_if_acknowledged(state, replica)
    }

    /// Publishes, and gets the PubAck.
    pub(crate) fn publish(&self, state: &mut State, replica: ReplicaId) -> Option<()> {
        let Phase::Publish { publication, duplicate } = state.delivery(replica)?.phase else {
            return None;
        };
        state.store(publication);
        state.delivery_mut(replica)?.phase = Phase::Acknowledge { duplicate };
        self.end_if_acknowledged(state, replica)
    }

    /// Publishes, and gets no PubAck. The worker will publish again, unless it
    /// does not await PubAcks.
    pub(crate) fn delay_publish(&self, state: &mut State, replica: ReplicaId) -> Option<()> {
        let Phase::Publish { publication, duplicate } = state.delivery(replica)?.phase else {
            return None;
        };
        state.publish(publication, true)?;
        if !self.keeps(Rule::AwaitPubAck) {
            state.delivery_mut(replica)?.phase = Phase::Acknowledge { duplicate };
        }
        self.end_if_acknowledged(state, replica)
    }

    /// Ends the work on a message with an early acknowledgement.
    fn end_if_acknowledged(&self, state: &mut State, replica: ReplicaId) -> Option<()> {
        let replica = state.replica_mut(replica)?;
        if replica.delivery.is_some_and(|delivery| {
            delivery.acknowledged_early && matches!(delivery.phase, Phase::Acknowledge { .. })
        }) {
            replica.delivery = None;
        }
        Some(())
    }

    /// The advisory about a message at `max_deliver` is lost. The message is not
    /// delivered again, and no worker learns of it. A worker that is still
    /// processing the message may acknowledge it.
    pub(crate) fn lose_advisory(&self, state: &mut State, id: StoredId) -> Option<()> {
        state.remaining.lost_advisories = state.remaining.lost_advisories.checked_sub(1)?;
        self.end_ack_wait(state, &id)?;
        state.stream_mut(id.stream).get_mut(&id)?.advisory_lost = true;
        Some(())
    }

    /// Acks, terms or deletes the message. With `other`, the message was lost in
    /// a wipe, and this message now has its sequence number.
    pub(crate) fn acknowledge(
        &self,
        state: &mut State,
        replica: ReplicaId,
        other: Option<StoredId>,
    ) -> Option<()> {
        let delivery = state.delivery(replica)?;
        if let Some(other) = other {
            state.stream_mut(other.stream).remove(&other);
        } else if !delivery.stale {
            state.stream_mut(delivery.id.stream).remove(&delivery.id);
        }
        let replica = state.replica_mut(replica)?;
        match delivery.phase {
            Phase::Acknowledge { .. } => replica.delivery = None,
            _ => replica.delivery.as_mut()?.acknowledged_early = true,
        }
        Some(())
    }
}
