//! What becomes of a state when nothing goes wrong any more.
//!
//! "Everything settles in the end" is a statement about endless time, and
//! `stateright`'s `eventually` can't carry it: it looks for a path's end, takes
//! a state that it has met before for none, and so misses counterexamples
//! where paths join. Here it is a statement about each state instead: *from
//! here, with no more faults, each of two fair schedules settles everything*. It holds
//! for every state, so there is no state out of which only luck leads; and
//! since each step that is no redrive uses something up (a phase, a delivery, a
//! message), no schedule can go on without coming to its end or to the redrive.
//!
//! The schedule is fair and not kind: whatever is still in the network is lost,
//! the duplicate windows never end, and the sweep and the redrive come only
//! once nothing else is left to do.

use crate::{
    action::Action,
    protocol::Protocol,
    scenario::Faults,
    state::{Record, Service, State, Who},
};

/// Turns of the redrive that have to be enough.
const TURNS: usize = 2;
/// More steps than any drain takes.
const STEPS: usize = 1_000;

/// Which of the possible steps is taken each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first: commands before results, what is in hand before what is not.
    First,
    /// The last.
    Last,
}

impl Protocol {
    /// The state after all that is left to do was done. With `redrive`, the
    /// redrive comes to what is still PENDING then.
    #[must_use]
    pub fn drain(&self, state: &State, redrive: bool, order: Order) -> State {
        let mut state = state.clone();
        state.left = Faults { redrives: u8::MAX, ..Faults::default() };
        state.in_flight.clear();
        let mut actions = Vec::new();
        self.work_off(&mut state, order, &mut actions);
        for _ in 0..TURNS {
            if redrive && state.records.iter().any(is_pending) {
                self.redrive_all(&mut state);
                self.work_off(&mut state, order, &mut actions);
            }
        }
        state
    }

    fn work_off(&self, state: &mut State, order: Order, actions: &mut Vec<Action>) {
        for _ in 0..STEPS {
            actions.clear();
            self.steps(state, actions);
            if actions.is_empty() {
                self.sweeps(state, actions);
            }
            let next = match order {
                Order::First => actions.first(),
                Order::Last => actions.last(),
            };
            if next.and_then(|next| self.apply(state, *next)).is_none() {
                return;
            }
        }
    }

    fn redrive_all(&self, state: &mut State) {
        let mut claims = Vec::new();
        self.claims(state, &mut claims);
        let first = Who { service: Service::Account, index: 0 };
        for claim in claims {
            if matches!(claim, Action::Claim(who, _) if who == first) {
                // It claims what `claims` has just found.
                let _ = self.apply(state, claim);
            }
        }
    }
}

/// Whether a record waits for its outcome.
#[must_use]
pub(crate) const fn is_pending(record: &Record) -> bool {
    matches!(record, Record::Pending { .. })
}
