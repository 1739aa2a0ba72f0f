//! The final state after the faults have ended.
//!
//! "Every record settles in the end" is a statement about infinite time.
//! `stateright`'s `eventually` can't check it: at a state that it has already
//! visited, it gives up the path, and so misses counterexamples where paths
//! join. Here it is a statement about each state: *from here, without further
//! faults, each of two fair schedules settles everything*. It is checked in
//! every state, so no state exists from which only luck leads to the end. Every
//! step except a redrive uses something up: a phase, a delivery, a message.
//! Every schedule therefore ends, or comes to the redrive.
//!
//! The schedules are fair, but unfavourable. Everything in flight is lost, the
//! duplicate windows never end, and the sweep and the redrive run only when no
//! other step is possible. The first schedule packs as many parts into a message
//! as the rules allow, and processes the poison before its neighbours.

use crate::money::{
    action::Action,
    protocol::Protocol,
    replica::{ReplicaId, Service},
    scenario::Faults,
    state::State,
};

/// Redrives that must be enough to settle a record.
const REDRIVES: usize = 2;
/// More steps than any drain takes.
const STEPS: usize = 1_000;

/// The choice among the possible steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// The first step: the account-service comes before the transaction-service.
    First,
    /// The last step.
    Last,
}

impl Protocol {
    /// The state after every possible step. With `redrive`, the records that
    /// are PENDING then are redriven.
    #[must_use]
    pub fn drain(&self, state: &State, redrive: bool, schedule: Schedule) -> State {
        let mut state = state.clone();
        state.remaining = Faults { redrives: u8::MAX, ..Faults::default() };
        state.in_flight.clear();
        let mut actions = Vec::new();
        self.run_to_end(&mut state, schedule, &mut actions);
        for _ in 0..REDRIVES {
            if redrive && self.awaits_settlement(&state) {
                self.redrive_all(&mut state);
                self.run_to_end(&mut state, schedule, &mut actions);
            }
        }
        state
    }

    /// Whether a record is PENDING, and its command is no poison.
    pub(crate) fn awaits_settlement(&self, state: &State) -> bool {
        let pending = |id| state.record(id).is_some_and(|record| record.is_pending());
        self.scenario.records(None).any(|id| pending(id) && self.scenario.poison(id).is_none())
    }

    fn run_to_end(&self, state: &mut State, schedule: Schedule, actions: &mut Vec<Action>) {
        for _ in 0..STEPS {
            actions.clear();
            self.steps(state, actions);
            if actions.is_empty() {
                self.sweeps(state, actions);
            }
            let next = match schedule {
                Schedule::First => actions.first(),
                Schedule::Last => actions.last(),
            };
            if next.and_then(|next| self.apply(state, *next)).is_none() {
                return;
            }
        }
    }

    fn redrive_all(&self, state: &mut State) {
        let mut claims = Vec::new();
        self.claims(state, &mut claims);
        let first = ReplicaId { service: Service::Account, index: 0 };
        for claim in claims {
            if matches!(claim, Action::Claim(replica, _) if replica == first) {
                // A claim of a PENDING record can't fail.
                let _ = self.apply(state, claim);
            }
        }
    }
}
