//! The protocol as a state machine: what `stateright` explores. Each step is
//! atomic, and everything that can come between two steps of the real thing
//! comes between two steps here: a crash, a wipe, another replica.

use stateright::{Model, Property};

use crate::{
    action::Action,
    properties, reached,
    rules::{Rule, Rules},
    scenario::Scenario,
    state::{Balance, Ledger, Record, Replica, State, Stray},
};

/// The protocol in a bounded world.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// The world.
    pub scenario: Scenario,
    /// Which rules are kept.
    pub rules: Rules,
}

impl Protocol {
    /// With every rule.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Self { scenario, rules: Rules::default() }
    }

    /// Without some rules.
    #[must_use]
    pub fn without(scenario: Scenario, off: &[Rule]) -> Self {
        Self { scenario, rules: Rules::without(off) }
    }

    pub(crate) fn keep(&self, rule: Rule) -> bool {
        self.rules.keep(rule)
    }

    /// Takes one step. `None`: it can't be taken, or changes nothing.
    pub(crate) fn apply(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Accept(who, record) => self.accept(state, who, record),
            Action::SendUnrecorded(who, record) => self.send_unrecorded(state, who, record),
            Action::Claim(who, record) => self.claim(state, who, record),
            Action::Send(who, message) => self.send(state, who, message, false),
            Action::HoldUpSend(who, message) => self.send(state, who, message, true),
            Action::Take(who, place) => self.take(state, who, place),
            Action::TakeUsedUp(who, place) | Action::Sweep(who, place) => {
                self.bury(state, who, place)
            }
            Action::Read(who) => self.read(state, who),
            Action::PublishUncommitted(who) => self.publish_uncommitted(state, who),
            Action::Commit(who) => self.commit(state, who),
            Action::Publish(who) => self.publish(state, who),
            Action::HoldUpPublish(who) => self.hold_up_publish(state, who),
            Action::LetGo(who) => self.let_go_of(state, who, None),
            Action::LetGoOther(who, place) => self.let_go_of(state, who, Some(place)),
            Action::Arrive(publication) => {
                let at = state.in_flight.iter().position(|it| *it == publication)?;
                state.in_flight.remove(at);
                state.store(publication);
                Some(())
            }
            Action::Crash(who) => {
                state.left.crashes = state.left.crashes.checked_sub(1)?;
                *state.replica_mut(who)? = Replica::default();
                Some(())
            }
            Action::Wipe(wipe) => {
                state.left.wipes = state.left.wipes.checked_sub(1)?;
                state.wipe(wipe);
                Some(())
            }
            Action::Forget(name) => {
                state.left.windows = state.left.windows.checked_sub(1)?;
                state.stream_mut(name).remembered.clear();
                Some(())
            }
            Action::LoseAdvisory(place) => self.lose_advisory(state, place),
            Action::SendStray(message) => {
                let at = usize::from(message.body != crate::broker::Body::Unreadable);
                *state.strays.get_mut(at)? = Stray::Sent;
                state.store(crate::broker::Publication::Message(message));
                Some(())
            }
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let records = self.scenario.movements.len();
        let accounts = self.scenario.accounts().count();
        let replicas = |count| vec![Replica::default(); usize::from(count)];
        vec![State {
            records: vec![Record::Unasked; records],
            projected: vec![Balance::default(); accounts],
            ledger: Ledger {
                balances: vec![Balance::default(); accounts],
                transactions: Vec::new(),
            },
            commands: crate::broker::Stream::default(),
            results: crate::broker::Stream::default(),
            dead_letters: Vec::new(),
            in_flight: Vec::new(),
            account: replicas(self.scenario.account_services),
            transaction: replicas(self.scenario.transaction_services),
            left: self.scenario.faults,
            first: vec![None; records],
            changed: false,
            strays: vec![Stray::Unsent; 2],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.requests(state, actions);
        self.steps(state, actions);
        self.sweeps(state, actions);
        if state.left.redrives > 0 {
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
        let mut all = properties::all();
        all.extend(reached::all());
        all
    }
}
