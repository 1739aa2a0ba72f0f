//! The protocols keep their invariants with every rule, and break them without each
//! one.

use std::{collections::BTreeSet, thread};

use model::{
    exploration::{Case, Explorable, World},
    job, money, redrive,
};

/// States are many small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[test]
fn with_every_rule_nothing_breaks_and_every_expected_situation_is_reached() {
    keeps_every_invariant(money::cases::worlds());
}

#[test]
fn with_every_rule_of_jobs_nothing_breaks_and_every_expected_situation_is_reached() {
    keeps_every_invariant(job::cases::worlds());
}

#[test]
fn without_a_rule_exactly_its_invariants_break() {
    let cases = money::cases::single_rules();
    let rules: Vec<_> = cases.iter().flat_map(|case| case.off.clone()).collect();
    assert_eq!(rules, money::rules::Rule::ALL);
    cases.iter().for_each(breaks_as_documented);
}

#[test]
fn without_a_rule_of_jobs_exactly_its_invariants_break() {
    let cases = job::cases::single_rules();
    let rules: Vec<_> = cases.iter().flat_map(|case| case.off.clone()).collect();
    assert_eq!(rules, job::rules::Rule::ALL);
    cases.iter().for_each(breaks_as_documented);
}

#[test]
fn with_every_rule_of_the_redrive_each_pending_record_is_found() {
    keeps_every_invariant(redrive::worlds());
}

#[test]
fn without_a_rule_of_the_redrive_exactly_its_invariants_break() {
    let cases = redrive::single_rules();
    let rules: Vec<_> = cases.iter().flat_map(|case| case.off.clone()).collect();
    assert_eq!(rules, redrive::Rule::ALL);
    cases.iter().for_each(breaks_as_documented);
}

#[test]
fn without_two_rules_that_cover_each_other_invariants_break() {
    money::cases::rule_pairs().iter().for_each(breaks_as_documented);
    job::cases::rule_pairs().iter().for_each(breaks_as_documented);
}

#[test]
fn the_known_limits_break_exactly_the_documented_invariants() {
    money::cases::known_limits().iter().for_each(breaks_as_documented);
    job::cases::known_limits().iter().for_each(breaks_as_documented);
}

fn keeps_every_invariant<P: Explorable>(worlds: Vec<World<P>>) {
    // A world takes one processor: stateright's threads wait for each other.
    thread::scope(|scope| {
        for (name, protocol, situations) in &worlds {
            scope.spawn(move || {
                let exploration = protocol.explore(1);
                println!("{name}: {} states in {:.1?}", exploration.states, exploration.took);
                assert!(exploration.broken.is_empty(), "{name}: {:?}", exploration.broken);
                for situation in *situations {
                    assert!(exploration.reached.contains(situation), "{name}: not: {situation}");
                }
            });
        }
    });
    let expected: BTreeSet<_> =
        worlds.iter().flat_map(|(_, _, situations)| situations.iter().copied()).collect();
    let all = P::situations();
    assert_eq!(expected, BTreeSet::from_iter(all), "every situation is expected in some world");
}

fn breaks_as_documented<P: Explorable, R: std::fmt::Debug>(case: &Case<P, R>) {
    let (_, broken) = case.explore(1);
    assert_eq!(broken, case.broken, "without {:?}", case.off);
}
