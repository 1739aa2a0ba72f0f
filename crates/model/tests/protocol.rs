//! The protocol holds with every rule, and breaks without each one.

use std::collections::BTreeSet;

use model::{
    cases::{self, Case},
    check::{explore, shortest},
    protocol::Protocol,
    reached::SITUATIONS,
    rules::Rule,
};

#[test]
fn with_every_rule_nothing_breaks_and_what_has_to_come_up_does() {
    let mut demanded = BTreeSet::new();
    for (name, scenario, situations) in cases::worlds() {
        let explored = explore(&Protocol::new(scenario), 1);
        assert!(explored.broken.is_empty(), "{name}: {:?}", explored.broken);
        for situation in situations {
            assert!(explored.reached.contains(situation), "{name}: not once: {situation}");
        }
        demanded.extend(situations);
    }
    let all = SITUATIONS.map(|(situation, _)| situation);
    assert_eq!(demanded, BTreeSet::from_iter(&all), "each situation has a world that demands it");
}

#[test]
fn without_a_rule_exactly_its_invariants_break() {
    let cases = cases::alone();
    let rules: Vec<_> = cases.iter().flat_map(|case| case.off.clone()).collect();
    assert_eq!(rules, Rule::ALL);
    cases.iter().for_each(breaks_as_told);
}

#[test]
fn rules_that_stand_behind_each_other_are_missed_together() {
    cases::together().iter().for_each(breaks_as_told);
}

#[test]
fn what_is_not_promised_breaks_where_it_is_said_to() {
    cases::limits().iter().for_each(breaks_as_told);
}

fn breaks_as_told(case: &Case) {
    let protocol = Protocol::without(case.scenario.clone(), &case.off);
    let broken: Vec<_> = explore(&protocol, 1)
        .broken
        .into_iter()
        .map(|invariant| (invariant, shortest(&protocol, invariant).map_or(0, |path| path.len())))
        .collect();
    assert_eq!(broken, case.broken, "without {:?}", case.off);
}
