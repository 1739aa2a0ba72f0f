//! The protocol as the state machine that `stateright` explores. Each step is
//! atomic. Everything that can happen between two steps of the real system can
//! happen between two steps here: a crash, a wipe, a step of another replica.

use stateright::{Model, Property};

use crate::{
    exploration::{self, Explorable, Exploration},
    money::{
        action::Action,
        databases::{Balance, Ledger, Record},
        invariants::{self, Invariant},
        protocol::Protocol,
        replica::Replica,
        situations,
        state::{State, Stray},
        streams::Stream,
    },
};

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let records = self.scenario.requests.len();
        let accounts = self.scenario.accounts().count();
        let replicas = |count| vec![Replica::default(); usize::from(count)];
        vec![State {
            records: vec![Record::NotRequested; records],
            projected: vec![Balance::default(); accounts],
            ledger: Ledger {
                balances: vec![Balance::default(); accounts],
                transactions: Vec::new(),
            },
            commands: Stream::default(),
            results: Stream::default(),
            dead_letters: Vec::new(),
            in_flight: Vec::new(),
            account_replicas: replicas(self.scenario.account_services),
            transaction_replicas: replicas(self.scenario.transaction_services),
            remaining: self.scenario.faults,
            first_decisions: vec![None; records],
            decision_changed: false,
            refuses_bundles: false,
            strays: vec![Stray::Unsent; 2],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.requests(state, actions);
        self.steps(state, actions);
        self.sweeps(state, actions);
        if state.remaining.redrives > 0 {
            self.claims(state, actions);
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
