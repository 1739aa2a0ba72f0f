//! Runs the checker, and says what it found.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model};

use crate::{action::Action, properties::Invariant, protocol::Protocol, reached::SITUATIONS};

/// What an exploration came to.
#[derive(Debug, Clone)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The longest path that was looked at.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The invariants that broke.
    pub broken: Vec<Invariant>,
    /// The situations that came up.
    pub reached: Vec<&'static str>,
}

/// Explores everything, whatever breaks.
#[must_use]
pub fn explore(protocol: &Protocol, threads: usize) -> Explored {
    let begun = Instant::now();
    let checker = protocol.clone().checker().threads(threads).spawn_bfs().join();
    let found: BTreeSet<&str> = checker.discoveries().into_keys().collect();
    Explored {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: begun.elapsed(),
        broken: Invariant::ALL.into_iter().filter(|it| found.contains(it.name())).collect(),
        reached: SITUATIONS
            .map(|(name, _)| name)
            .into_iter()
            .filter(|it| found.contains(it))
            .collect(),
    }
}

/// A shortest way to break an invariant, if it can be broken.
///
/// The checker goes breadth first, and may find another, longer way before it
/// stops: so it is asked for a shorter one until there is none.
#[must_use]
pub fn shortest(protocol: &Protocol, invariant: Invariant) -> Option<Vec<Action>> {
    let mut best: Option<Vec<Action>> = None;
    loop {
        let only = HasDiscoveries::AnyOf(BTreeSet::from([invariant.name()]));
        let mut checker = protocol.clone().checker().finish_when(only);
        if let Some(best) = &best {
            // The checker counts states, and leaves out those at this depth.
            checker = checker.target_max_depth(best.len() + 1);
        }
        let checker = checker.spawn_bfs().join();
        match checker.discovery(invariant.name()) {
            Some(path) => best = Some(path.into_actions()),
            None => return best,
        }
    }
}
