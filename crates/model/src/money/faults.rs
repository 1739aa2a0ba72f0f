//! The faults that can happen next, within the scenario's bounds.

use crate::money::{
    action::Action,
    databases::{Outcome, Record, RecordId, Transaction},
    protocol::Protocol,
    replica::{Delivery, Phase, Replica, ReplicaId, Service},
    state::{State, Stray},
    streams::{Body, Message, MessageId, Part, StoredMessage, StreamName, Wipe},
};

impl Protocol {
    pub(crate) fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let remaining = &state.remaining;
        actions.extend(state.in_flight.iter().map(|publication| Action::Arrive(*publication)));
        for service in Service::ALL {
            let mut previous = None;
            for (index, replica) in state.replicas(service).iter().enumerate() {
                // Equal replicas have the same faults.
                if previous == Some(replica) {
                    continue;
                }
                previous = Some(replica);
                let id = ReplicaId { service, index };
                if remaining.crashes > 0 && *replica != Replica::default() {
                    actions.push(Action::Crash(id));
                }
                if remaining.delayed_publications > 0 {
                    let sends = self.sendable(state, &replica.outgoing).into_iter();
                    actions.extend(sends.map(|message| Action::DelaySend(id, message)));
                    let delivery = replica.delivery.iter();
                    let publications =
                        delivery.flat_map(|delivery| self.publications(state, delivery));
                    actions.extend(publications.map(|next| Action::DelayPublish(id, next)));
                }
                if remaining.held_rows > 0 {
                    let parts = replica.delivery.iter().flat_map(Delivery::parts).enumerate();
                    let locked = parts.filter(|(_, (part, phase))| needs_lock(*part, *phase));
                    actions.extend(locked.map(|(index, _)| Action::FindLocked(id, index)));
                }
                if remaining.slow_workers > 0 && replica.delivery.is_none() {
                    self.deliveries(state, id, true, actions);
                }
            }
        }
        if remaining.wipes > 0 {
            actions.extend(Wipe::ALL.map(Action::Wipe));
        }
        if remaining.expired_windows > 0 {
            let open = |name: &StreamName| !state.stream(*name).remembered_ids.is_empty();
            actions.extend(StreamName::ALL.into_iter().filter(open).map(Action::ExpireWindow));
        }
        if remaining.lost_advisories > 0 {
            let advised =
                |message: &&StoredMessage| self.is_exhausted(message) && !message.advisory_lost;
            let messages = state.commands.messages.iter().chain(&state.results.messages);
            let messages = messages
                .filter(advised)
                .filter(|message| remaining.slow_workers > 0 || !state.awaits_ack(message));
            actions.extend(messages.map(|message| Action::LoseAdvisory(message.id)));
        }
        if remaining.lowered_limits > 0 && !state.refuses_bundles {
            actions.push(Action::LowerLimit);
        }
        if remaining.discards > 0 {
            let results = state.results.messages.iter();
            actions.extend(results.map(|message| Action::Discard(message.id)));
        }
        self.strays(state, actions);
    }

    fn strays(&self, state: &State, actions: &mut Vec<Action>) {
        let unsent = |index: usize| state.strays.get(index) == Some(&Stray::Unsent);
        if self.scenario.unreadable && unsent(0) {
            let first = RecordId(0);
            let accepted = state.record(first).is_some_and(|row| row != Record::NotRequested);
            let neighbour = accepted
                .then_some(Part { id: MessageId::Record(first), body: Body::Command(first) });
            actions.extend(self.stray(Body::Unreadable, neighbour));
        }
        if self.scenario.contradicting && unsent(1) {
            let settled = state.records.iter().find_map(|record| match record {
                Record::Settled(result) => Some(*result),
                _ => None,
            });
            let neighbour = state
                .ledger
                .transactions
                .last()
                .map(|row| Part { id: MessageId::Record(row.record), body: Body::Result(*row) });
            actions.extend(
                settled
                    .and_then(|result| self.stray(Body::Result(contradiction(result)), neighbour)),
            );
        }
    }

    /// A stray message. In a world with bundles, it has the maximum of parts: the
    /// neighbour is repeated. `None`: there is no neighbour yet.
    fn stray(&self, body: Body, neighbour: Option<Part>) -> Option<Action> {
        let room = usize::try_from(self.scenario.max_parts).ok()? - 1;
        let neighbours = std::iter::repeat_n(neighbour, room).collect::<Option<Vec<_>>>()?;
        let stray = Part { id: MessageId::None, body };
        Some(Action::SendStray(Message::of(neighbours.into_iter().chain([stray]))))
    }
}

/// Whether the next step of a part locks an account.
fn needs_lock(part: Part, phase: Phase) -> bool {
    part.body != Body::Unreadable && matches!(phase, Phase::Delivered | Phase::Read { .. })
}

/// Another transaction of the same record, with the opposite outcome.
fn contradiction(result: Transaction) -> Transaction {
    let outcome = match result.outcome {
        Outcome::Applied { .. } => Outcome::Refused,
        Outcome::Refused => Outcome::Applied { balance_after: 0, account_seq: 1 },
    };
    Transaction { id: u8::MAX, outcome, ..result }
}
