//! Runs the checker and reports its findings.

use std::{
    collections::BTreeSet,
    fmt,
    hash::Hash,
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model};

/// A model with invariants and situations. Their names are those of its properties.
pub trait Explorable:
    Model<
        State: Clone + fmt::Debug + Hash + PartialEq + Send + Sync,
        Action: Clone + fmt::Debug + PartialEq + Send + Sync,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// A condition that must always hold.
    type Invariant: Copy + fmt::Debug + fmt::Display + PartialEq + 'static;

    /// Every invariant.
    const INVARIANTS: &'static [Self::Invariant];

    /// The name of the invariant's property.
    fn name(invariant: Self::Invariant) -> &'static str;

    /// The names of the situations that some world must reach.
    fn situations() -> Vec<&'static str>;

    /// Explores every state, even if invariants break.
    ///
    /// Each model implements it by the same function. So the checker is compiled for it once, in this
    /// library, and not again in each program and test.
    #[must_use]
    fn explore(&self, threads: usize) -> Exploration<Self>;

    /// A shortest path to a broken invariant. `None`: the invariant holds.
    #[must_use]
    fn shortest_path(&self, invariant: Self::Invariant) -> Option<Vec<Self::Action>>;
}

/// A world without some rules, and its broken invariants.
#[derive(Debug, Clone)]
pub struct Case<P: Explorable, R> {
    /// The rules that are switched off.
    pub off: Vec<R>,
    /// The protocol without these rules, in its world.
    pub protocol: P,
    /// All broken invariants, each with the length of a shortest path in steps.
    pub broken: Vec<(P::Invariant, usize)>,
}

impl<P: Explorable, R> Case<P, R> {
    /// Explores the case. Returns the size, and the broken invariants as in [`Case::broken`].
    #[must_use]
    pub fn explore(&self, threads: usize) -> (Exploration<P>, Vec<(P::Invariant, usize)>) {
        let exploration = self.protocol.explore(threads);
        let steps = |invariant| self.protocol.shortest_path(invariant).map_or(0, |path| path.len());
        let broken =
            exploration.broken.iter().map(|invariant| (*invariant, steps(*invariant))).collect();
        (exploration, broken)
    }
}

/// A name, a protocol without broken invariants in its world, and the expected situations.
pub type World<P> = (&'static str, P, &'static [&'static str]);

/// The findings in one world.
#[derive(Debug, Clone)]
pub struct Exploration<P: Explorable> {
    /// Number of distinct states.
    pub states: usize,
    /// Number of steps between them.
    pub steps: usize,
    /// Length of the longest explored path, in states.
    pub depth: usize,
    /// Wall-clock time of the exploration.
    pub took: Duration,
    /// The broken invariants.
    pub broken: Vec<P::Invariant>,
    /// The reached situations.
    pub reached: Vec<&'static str>,
}

/// Implements [`Explorable::explore`].
pub(crate) fn explore<P: Explorable>(protocol: &P, threads: usize) -> Exploration<P> {
    let begun = Instant::now();
    let checker = protocol.clone().checker().threads(threads).spawn_bfs().join();
    let found: BTreeSet<&str> = checker.discoveries().into_keys().collect();
    let broken = |invariant: &P::Invariant| found.contains(P::name(*invariant));
    Exploration {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: begun.elapsed(),
        broken: P::INVARIANTS.iter().copied().filter(broken).collect(),
        reached: P::situations().into_iter().filter(|name| found.contains(name)).collect(),
    }
}

/// Implements [`Explorable::shortest_path`].
///
/// The checker searches breadth first, but may find a longer path before it
/// stops. The search is therefore repeated until there is no shorter path.
pub(crate) fn shortest_path<P: Explorable>(
    protocol: &P,
    invariant: P::Invariant,
) -> Option<Vec<P::Action>> {
    let name = P::name(invariant);
    let mut best: Option<Vec<P::Action>> = None;
    loop {
        let only = HasDiscoveries::AnyOf(BTreeSet::from([name]));
        let mut checker = protocol.clone().checker().finish_when(only);
        if let Some(best) = &best {
            // The depth counts states, and states at the maximum depth are left out.
            checker = checker.target_max_depth(best.len() + 1);
        }
        let checker = checker.spawn_bfs().join();
        match checker.discovery(name) {
            Some(path) => best = Some(path.into_actions()),
            None => return best,
        }
    }
}
