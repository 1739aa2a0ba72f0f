//! The protocol as the state machine that `stateright` explores. Each step is atomic.

use stateright::{Model, Property};

use super::{
    action::Action,
    invariants::{self, Invariant},
    protocol::Protocol,
    replica::Replica,
    report::Report,
    situations,
    state::{State, Stray},
    stream::Stream,
};
use crate::exploration::{self, Explorable, Exploration};

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            reports: vec![Report::NONE; usize::from(self.scenario.reports)],
            files: Vec::new(),
            stream: Stream::default(),
            dead_letters: Vec::new(),
            in_flight: Vec::new(),
            replicas: vec![Replica::default(); usize::from(self.scenario.replicas)],
            remaining: self.scenario.faults,
            stray: Stray::Unsent,
            end_changed: false,
            order_broken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.requests(state, actions);
        self.steps(state, actions);
        self.delays(state, actions);
        if state.remaining.redrives > 0 {
            self.redrives(state, actions);
        }
        self.faults(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.apply(&mut state, action)?;
        state.sort();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = invariants::properties();
        properties.extend(situations::properties());
        properties
    }
}

impl Explorable for Protocol {
    type Invariant = Invariant;

    const INVARIANTS: &'static [Invariant] = &Invariant::ALL;

    fn name(invariant: Invariant) -> &'static str {
        invariant.name()
    }

    fn situations() -> Vec<&'static str> {
        situations::SITUATIONS.into_iter().map(|(name, _)| name).collect()
    }

    fn explore(&self, threads: usize) -> Exploration<Self> {
        exploration::explore(self, threads)
    }

    fn shortest_path(&self, invariant: Invariant) -> Option<Vec<Self::Action>> {
        exploration::shortest_path(self, invariant)
    }
}
