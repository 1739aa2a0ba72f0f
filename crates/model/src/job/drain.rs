//! The final state after the faults have ended. The drain of the money protocol
//! explains the idea: [`crate::money::drain`].
//!
//! Everything in flight is lost. Delays end, and the redrive runs, only when no other
//! step is possible. The redrive counts messages, as the system does: it sends only as
//! many as are missing.

use super::{action::Action, protocol::Protocol, scenario::Faults, state::State};

/// Rounds of the redrive that must be enough.
const REDRIVES: usize = 6;
/// More steps than any drain takes.
const STEPS: usize = 1_000;

/// The choice among the possible steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// The first step.
    First,
    /// The last step.
    Last,
}

impl Protocol {
    /// The state after every possible step. Without `delays`, no delay between two
    /// attempts ends meanwhile.
    #[must_use]
    pub fn drain(&self, state: &State, delays: bool, schedule: Schedule) -> State {
        let mut state = state.clone();
        state.remaining = Faults { redrives: u8::MAX, ..Faults::default() };
        state.in_flight.clear();
        let mut actions = Vec::new();
        self.run_to_end(&mut state, delays, schedule, &mut actions);
        for _ in 0..REDRIVES {
            if !state.has_open_reports() {
                break;
            }
            self.redrive_missing(&mut state);
            self.run_to_end(&mut state, delays, schedule, &mut actions);
        }
        state
    }

    fn run_to_end(
        &self,
        state: &mut State,
        delays: bool,
        schedule: Schedule,
        actions: &mut Vec<Action>,
    ) {
        for _ in 0..STEPS {
            actions.clear();
            self.steps(state, actions);
            if actions.is_empty() && delays {
                self.delays(state, actions);
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

    fn redrive_missing(&self, state: &mut State) {
        let due = state.reports.iter().filter(|report| report.is_due()).count();
        let messages = state.stream.messages.iter().filter(|message| {
            message.deliveries == 0 || state.is_ack_pending(message, self.scenario.max_deliver)
        });
        let missing = due.saturating_sub(messages.count());
        let mut actions = Vec::new();
        self.redrives(state, &mut actions);
        let first = actions.into_iter().filter(|action| matches!(action, Action::Redrive(0, _)));
        for action in first.take(missing) {
            // A redrive of a due report can't fail.
            let _ = self.apply(state, action);
        }
    }
}
