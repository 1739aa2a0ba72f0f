//! The possible steps of the processes, without faults. Faults are separate, in
//! [`crate::money::faults`], because [`crate::money::drain`] does without them.

use crate::money::{
    action::Action,
    databases::{Record, RecordId},
    protocol::Protocol,
    replica::{Acknowledgement, Delivery, Phase, ReplicaId, Service},
    rules::Rule,
    state::State,
    streams::{Body, Part, StoredMessage},
};

impl Protocol {
    /// The steps of all processes, except new requests, sweeps and redrives.
    pub(crate) fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for service in Service::ALL {
            let mut previous = None;
            for (index, replica) in state.replicas(service).iter().enumerate() {
                // Equal replicas have the same steps.
                if previous == Some(replica) {
                    continue;
                }
                previous = Some(replica);
                let id = ReplicaId { service, index };
                let uncommitted = replica.uncommitted.iter();
                actions.extend(uncommitted.map(|record| Action::Accept(id, *record)));
                let messages = self.sendable(state, &replica.outgoing).into_iter();
                actions.extend(messages.map(|message| Action::Send(id, message)));
                match &replica.delivery {
                    Some(delivery) => self.worker_steps(state, id, delivery, actions),
                    None => self.deliveries(state, id, false, actions),
                }
            }
        }
    }

    fn worker_steps(
        &self,
        state: &State,
        replica: ReplicaId,
        delivery: &Delivery,
        actions: &mut Vec<Action>,
    ) {
        if self.acknowledges_first(delivery) {
            return self.acknowledgements(state, replica, delivery, actions);
        }
        for (index, (part, phase)) in delivery.parts().enumerate() {
            self.part_steps(state, replica, (index, part, phase), actions);
        }
        let publications = self.publications(state, delivery).into_iter();
        actions.extend(publications.map(|publication| Action::Publish(replica, publication)));
        if delivery.is_done() || self.acknowledges_too_soon(delivery) {
            self.acknowledgements(state, replica, delivery, actions);
        }
    }

    fn part_steps(
        &self,
        state: &State,
        replica: ReplicaId,
        (index, part, phase): (usize, Part, Phase),
        actions: &mut Vec<Action>,
    ) {
        let record = match part.body {
            Body::Command(record) => Some(record),
            Body::Result(_) | Body::Unreadable => None,
        };
        match phase {
            Phase::Delivered if record.is_some() && !self.keeps(Rule::LockAccounts) => {
                actions.push(Action::Read(replica, index));
            }
            Phase::Delivered if record.is_some() && !self.keeps(Rule::OutcomeBeforeResult) => {
                actions.push(Action::PublishUncommitted(replica, index));
            }
            Phase::Delivered => {
                actions.push(Action::Commit(replica, index));
                if record.is_some_and(|record| self.may_take_fast_path(state, record)) {
                    actions.push(Action::Read(replica, index));
                }
            }
            Phase::Read { .. } | Phase::PublishedUncommitted => {
                actions.push(Action::Commit(replica, index));
            }
            Phase::PublishResult { .. } | Phase::PublishDeadLetter | Phase::Done { .. } => {}
        }
    }

    /// Whether the next step is an acknowledgement before the work.
    fn acknowledges_first(&self, delivery: &Delivery) -> bool {
        let untouched = || delivery.phases.all(|phase| phase == Phase::Delivered);
        let only_dead_letters = || {
            let is_dead_letter = |phase| phase == Phase::PublishDeadLetter;
            delivery.phases.any(is_dead_letter)
                && delivery.phases.all(|phase| phase.is_done() || is_dead_letter(phase))
        };
        !delivery.acknowledged_early
            && ((!self.keeps(Rule::CommitBeforeAck) && untouched())
                || (!self.keeps(Rule::DeadLetterBeforeTerm) && only_dead_letters()))
    }

    /// Whether the worker may acknowledge the message for one of its parts.
    fn acknowledges_too_soon(&self, delivery: &Delivery) -> bool {
        let committed = |phase: Phase| !matches!(phase, Phase::Delivered | Phase::Read { .. });
        !delivery.acknowledged_early
            && delivery.phases.any(|phase| phase.is_done())
            && (!self.keeps(Rule::AckAllParts)
                || (!self.keeps(Rule::AwaitEveryPubAck) && delivery.phases.all(committed)))
    }

    fn acknowledgements(
        &self,
        state: &State,
        replica: ReplicaId,
        delivery: &Delivery,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Acknowledge(replica));
        if delivery.stale && self.scenario.stale_acks {
            // A consumer knows its delivered messages; a stream knows all of its messages.
            let deletes = delivery.acknowledgement == Acknowledgement::Delete;
            let messages = state.stream(delivery.id.stream).messages.iter();
            let reachable = messages.filter(|message| message.delivery_count > 0 || deletes);
            let others = reachable.map(|message| Action::AcknowledgeOther(replica, message.id));
            actions.extend(others);
        }
    }

    /// The fast path continues only if the record was undecided when its
    /// statement began. Poison crashes or fails before that.
    fn may_take_fast_path(&self, state: &State, record: RecordId) -> bool {
        self.decided(state, record).is_none() && self.scenario.poison(record).is_none()
    }

    /// Deliveries to this replica. With `in_progress`, only of messages with a
    /// worker; otherwise only of the others.
    pub(crate) fn deliveries(
        &self,
        state: &State,
        replica: ReplicaId,
        in_progress: bool,
        actions: &mut Vec<Action>,
    ) {
        for message in &state.stream(replica.service.consumes()).messages {
            if message.advisory_lost || state.is_in_progress(&message.id) != in_progress {
                continue;
            }
            if !self.is_exhausted(message) {
                actions.push(Action::Deliver(replica, message.id));
            } else if self.keeps(Rule::WorkOffUsedUp) {
                actions.push(Action::ReceiveAdvisory(replica, message.id));
            }
        }
    }

    /// Whether the message has reached `max_deliver`.
    pub(crate) fn is_exhausted(&self, message: &StoredMessage) -> bool {
        message.delivery_count >= self.scenario.max_deliver
    }

    /// The findings of the sweep, which may run at any time: the stored commands
    /// at `max_deliver`, with or without an advisory, even while a slow worker
    /// processes them. `TRANSACTION_RESULT` can't be swept: it is no work queue
    /// and keeps settled results, so the sweep could not tell them from others.
    pub(crate) fn sweeps(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.keeps(Rule::Sweep) {
            return;
        }
        let abandoned = |message: &&StoredMessage| {
            self.is_exhausted(message)
                && (state.remaining.slow_workers > 0 || !state.awaits_ack(message))
        };
        for message in state.commands.messages.iter().filter(abandoned) {
            let action = |replica| Action::Sweep(replica, message.id);
            self.for_each_replica(state, Service::Transaction, action, actions);
        }
    }

    /// The next redrives.
    pub(crate) fn claims(&self, state: &State, actions: &mut Vec<Action>) {
        let messages = state.commands.messages.len();
        let paused = self.scenario.backlog.is_some_and(|most| messages > most);
        if paused || !self.keeps(Rule::Redrive) {
            return;
        }
        for record in self.scenario.records(None) {
            if state.record(record).is_some_and(|row| row.is_pending()) {
                let action = |replica| Action::Claim(replica, record);
                self.for_each_replica(state, Service::Account, action, actions);
            }
        }
    }

    /// The next request. Clients send their requests one after the other. No
    /// order is lost, because an accepted record without further steps behaves
    /// like a later acceptance.
    pub(crate) fn requests(&self, state: &State, actions: &mut Vec<Action>) {
        let requested = |id: &RecordId| {
            state.record(*id) != Some(Record::NotRequested)
                || state.account_replicas.iter().any(|replica| replica.uncommitted.contains(id))
        };
        let mut records = self.scenario.records(None);
        let Some(record) = records.find(|id| !requested(id)) else { return };
        let action = |replica| {
            if self.keeps(Rule::RecordBeforeCommand) {
                Action::Accept(replica, record)
            } else {
                Action::SendUnrecorded(replica, record)
            }
        };
        self.for_each_replica(state, Service::Account, action, actions);
    }

    /// The same step for every replica of a service. Equal replicas count once.
    fn for_each_replica(
        &self,
        state: &State,
        service: Service,
        action: impl Fn(ReplicaId) -> Action,
        actions: &mut Vec<Action>,
    ) {
        let mut previous = None;
        for (index, replica) in state.replicas(service).iter().enumerate() {
            if previous != Some(replica) {
                actions.push(action(ReplicaId { service, index }));
            }
            previous = Some(replica);
        }
    }
}
