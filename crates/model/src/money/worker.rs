//! The worker loop of both services: receive a message, commit each part, publish and
//! await the PubAcks, acknowledge.

use crate::money::{
    parts::Parts,
    protocol::Protocol,
    replica::{Acknowledgement, Delivery, Phase, Replica, ReplicaId},
    rules::Rule,
    scenario::Poison,
    state::State,
    streams::{Body, DeadLetter, Part, Publication, StoredId},
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
        let phases = id.message.parts.iter().map(|_| Phase::Delivered).collect();
        self.hold(state, replica, id, phases, Acknowledgement::Ack)
    }

    /// Each part of a message at `max_deliver` is dead-lettered. Either its advisory
    /// or the sweep finds the message. The advisory is stored and redelivered until
    /// it is processed; the sweep runs again and again.
    pub(crate) fn dead_letter_exhausted(
        &self,
        state: &mut State,
        replica: ReplicaId,
        id: StoredId,
    ) -> Option<()> {
        self.end_ack_wait(state, &id)?;
        let phase = |(index, _): (usize, Part)| {
            if index == 0 || self.keeps(Rule::UsedUpEachPart) {
                Phase::PublishDeadLetter
            } else {
                Phase::Done { duplicate: true }
            }
        };
        let phases = id.message.parts.iter().enumerate().map(phase).collect();
        self.hold(state, replica, id, phases, Acknowledgement::Delete)
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
        phases: Parts<Phase>,
        acknowledgement: Acknowledgement,
    ) -> Option<()> {
        let delivery = &mut state.replica_mut(replica)?.delivery;
        if delivery.is_some() {
            return None;
        }
        *delivery =
            Some(Delivery { id, stale: false, acknowledged_early: false, phases, acknowledgement });
        Some(())
    }

    /// A command is decided, a result is settled, and an unreadable part is
    /// dead-lettered. A poison command crashes the worker or fails.
    pub(crate) fn commit(&self, state: &mut State, replica: ReplicaId, index: usize) -> Option<()> {
        let (part, _) = state.part(replica, index)?;
        match part.body {
            Body::Command(record) => match self.scenario.poison(record) {
                None => self.decide(state, replica, index, record)?,
                Some(Poison::Fails) => self.fail(state, replica, index)?,
                Some(Poison::Kills) => *state.replica_mut(replica)? = Replica::default(),
            },
            Body::Result(result) => self.settle(state, replica, index, result)?,
            Body::Unreadable => self.reject(state, replica, index)?,
        }
        self.end_if_acknowledged(state, replica)
    }

    /// The part can't be processed: it is dead-lettered, and its neighbours are not.
    pub(crate) fn reject(&self, state: &mut State, replica: ReplicaId, index: usize) -> Option<()> {
        if !self.keeps(Rule::DeadLetter) {
            *state.phase_mut(replica, index)? = Phase::Done { duplicate: true };
            return Some(());
        }
        let delivery = state.delivery_mut(replica)?;
        delivery.acknowledgement = Acknowledgement::Term;
        for (other, phase) in delivery.phases.iter_mut().enumerate() {
            if other == index || !self.keeps(Rule::DeadLetterOnePart) {
                *phase = Phase::PublishDeadLetter;
            }
        }
        Some(())
    }

    /// The part failed by its data. The whole message is returned to the broker. At
    /// its last delivery, the part is dead-lettered.
    pub(crate) fn fail(&self, state: &mut State, replica: ReplicaId, index: usize) -> Option<()> {
        let id = state.delivery(replica)?.id;
        let stored = state.stream(id.stream).get(&id);
        if stored.is_none_or(|message| self.is_exhausted(message)) {
            return self.reject(state, replica, index);
        }
        if self.keeps(Rule::HandBackWhole) {
            state.replica_mut(replica)?.delivery = None;
        } else {
            *state.phase_mut(replica, index)? = Phase::Done { duplicate: true };
        }
        Some(())
    }

    /// What a worker can publish next: results in any grouping, and dead letters.
    pub(crate) fn publications(&self, state: &State, delivery: &Delivery) -> Vec<Publication> {
        let mut results: Vec<Part> = Vec::new();
        let mut dead_letters = Vec::new();
        for (part, phase) in delivery.parts() {
            match phase {
                Phase::PublishResult { result, .. } => results.push(result),
                Phase::PublishDeadLetter => dead_letters
                    .push(Publication::DeadLetter(DeadLetter { message: delivery.id, part })),
                _ => {}
            }
        }
        let results = self.sendable(state, &results).into_iter().map(Publication::Message);
        results.chain(dead_letters).collect()
    }

    /// Publishes, and gets the PubAck. With `delayed`, there is no PubAck: the worker
    /// will publish again, in any grouping, unless it does not await PubAcks.
    pub(crate) fn publish(
        &self,
        state: &mut State,
        replica: ReplicaId,
        publication: Publication,
        delayed: bool,
    ) -> Option<()> {
        if matches!(publication, Publication::Message(message) if self.is_refused(state, &message))
        {
            return self.hand_back_refused(state, replica);
        }
        self.send_to_broker(state, publication, delayed)?;
        if !delayed || !self.keeps(Rule::AwaitPubAck) {
            let delivery = state.delivery_mut(replica)?;
            let parts = delivery.id.message.parts;
            for (part, phase) in parts.iter().zip(delivery.phases.iter_mut()) {
                *phase = after_pub_ack(publication, part, *phase);
            }
        }
        self.end_if_acknowledged(state, replica)
    }

    /// The broker refused results. The message is handed back; at its last delivery,
    /// these parts are dead-lettered.
    fn hand_back_refused(&self, state: &mut State, replica: ReplicaId) -> Option<()> {
        let id = state.delivery(replica)?.id;
        let stored = state.stream(id.stream).get(&id);
        if stored.is_some_and(|message| !self.is_exhausted(message)) {
            state.replica_mut(replica)?.delivery = None;
            return Some(());
        }
        for phase in state.delivery_mut(replica)?.phases.iter_mut() {
            if matches!(phase, Phase::PublishResult { .. }) {
                *phase = Phase::PublishDeadLetter;
            }
        }
        Some(())
    }

    /// Ends the work on a message with an early acknowledgement.
    fn end_if_acknowledged(&self, state: &mut State, replica: ReplicaId) -> Option<()> {
        let replica = state.replica_mut(replica)?;
        let ends = |delivery: Delivery| delivery.acknowledged_early && delivery.is_done();
        if replica.delivery.is_some_and(ends) {
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
        if delivery.is_done() {
            replica.delivery = None;
        } else {
            replica.delivery.as_mut()?.acknowledged_early = true;
        }
        Some(())
    }
}

/// The progress of a part after the PubAck of a publication.
fn after_pub_ack(publication: Publication, part: Part, phase: Phase) -> Phase {
    match (publication, phase) {
        (Publication::Message(message), Phase::PublishResult { result, duplicate })
            if message.parts.any(|published| published == result) =>
        {
            Phase::Done { duplicate }
        }
        (Publication::DeadLetter(dead_letter), Phase::PublishDeadLetter)
            if dead_letter.part == part =>
        {
            Phase::Done { duplicate: false }
        }
        _ => phase,
    }
}
