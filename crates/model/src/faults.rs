//! Everything that can go wrong next, within what the scenario allows.

use crate::{
    action::Action,
    broker::{Body, Message, MessageId, Stored, StreamName, Wipe},
    protocol::Protocol,
    state::{Hand, Outcome, Phase, Record, Replica, Service, State, Stray, Transaction, Who},
};

impl Protocol {
    /// What may go wrong.
    pub(crate) fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let left = &state.left;
        actions.extend(state.in_flight.iter().map(|it| Action::Arrive(*it)));
        for service in [Service::Account, Service::Transaction] {
            let mut before = None;
            for (index, replica) in state.replicas(service).iter().enumerate() {
                if before == Some(replica) {
                    continue;
                }
                before = Some(replica);
                let who = Who { service, index };
                if left.crashes > 0 && *replica != Replica::default() {
                    actions.push(Action::Crash(who));
                }
                if left.held_up > 0 {
                    let sends = replica.outgoing.iter();
                    actions.extend(sends.map(|it| Action::HoldUpSend(who, *it)));
                    if matches!(replica.hand, Some(Hand { phase: Phase::Publish { .. }, .. })) {
                        actions.push(Action::HoldUpPublish(who));
                    }
                }
                if left.slow > 0 && replica.hand.is_none() {
                    self.deliveries(state, who, true, actions);
                }
            }
        }
        if left.wipes > 0 {
            actions.extend(Wipe::ALL.map(Action::Wipe));
        }
        if left.windows > 0 {
            let streams = [StreamName::Commands, StreamName::Results];
            let full = |name: &StreamName| !state.stream(*name).remembered.is_empty();
            actions.extend(streams.into_iter().filter(full).map(Action::Forget));
        }
        if left.advisories > 0 {
            let heard = |it: &&Stored| self.is_used_up(it) && !it.unheard;
            let lost = state.commands.stored.iter().chain(&state.results.stored).filter(heard);
            let lost = lost.filter(|it| left.slow > 0 || !state.is_awaited(it));
            actions.extend(lost.map(|it| Action::LoseAdvisory(it.place)));
        }
        self.strays(state, actions);
    }

    fn strays(&self, state: &State, actions: &mut Vec<Action>) {
        let unsent = |at: usize| state.strays.get(at) == Some(&Stray::Unsent);
        let stray = |body| Action::SendStray(Message { id: MessageId::None, body });
        if self.scenario.unreadable && unsent(0) {
            actions.push(stray(Body::Unreadable));
        }
        if self.scenario.contradicting && unsent(1) {
            let settled = state.records.iter().find_map(|record| match record {
                Record::Settled(told) => Some(*told),
                _ => None,
            });
            actions.extend(settled.map(|told| stray(Body::Result(contradiction(told)))));
        }
    }
}

/// Another transaction of the same record, with the other outcome.
fn contradiction(told: Transaction) -> Transaction {
    let outcome = match told.outcome {
        Outcome::Applied { .. } => Outcome::Refused,
        Outcome::Refused => Outcome::Applied { balance_after: 0, account_seq: 1 },
    };
    Transaction { id: u8::MAX, outcome, ..told }
}
