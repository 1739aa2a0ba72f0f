//! Runs the checker and reports its findings.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model};

use crate::{action::Action, invariants::Invariant, protocol::Protocol, situations::SITUATIONS};

/// The findings in one world.
#[derive(Debug, Clone)]
pub struct Exploration {
    /// Number of distinct states.
    pub states: usize,
    /// Number of steps between them.
    pub steps: usize,
    /// Length of the longest explored path, in states.
    pub depth: usize,
    /// Wall-clock time of the exploration.
    pub took: Duration,
    /// The broken invariants.
    pub broken: Vec<Invariant>,
    /// The reached situations.
    pub reached: Vec<&'static str>,
}

/// Explores every state, even if invariants break.
#[must_use]
pub fn explore(protocol: &Protocol, threads: usize) -> Exploration {
    let begun = Instant::now();
    let checker = protocol.clone().checker().threads(threads).spawn_bfs().join();
    let found: BTreeSet<&str> = checker.discoveries().into_keys().collect();
    let invariants = Invariant::ALL.into_iter();
    let situations = SITUATIONS.into_iter().map(|(name, _)| name);
    Exploration {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: begun.elapsed(),
        broken: invariants.filter(|invariant| found.contains(invariant.name())).collect(),
        reached: situations.filter(|name| found.contains(name)).collect(),
    }
}

/// A shortest path to a broken invariant. `None`: the invariant holds.
///
/// The checker searches breadth first, but may find a longer path before it
/// stops. The search is therefore repeated until there is no shorter path.
#[must_use]
pub fn shortest_path(protocol: &Protocol, invariant: Invariant) -> Option<Vec<Action>> {
    let mut best: Option<Vec<Action>> = None;
    loop {
        let only = HasDiscoveries::AnyOf(BTreeSet::from([invariant.name()]));
        let mut checker = protocol.clone().checker().finish_when(only);
        if let Some(best) = &best {
            // The depth counts states, and states at the maximum depth are left out.
            checker = checker.target_max_depth(best.len() + 1);
        }
        let checker = checker.spawn_bfs().join();
        match checker.discovery(invariant.name()) {
            Some(path) => best = Some(path.into_actions()),
            None => return best,
        }
    }
}
