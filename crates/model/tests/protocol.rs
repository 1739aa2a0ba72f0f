//! The protocol keeps its invariants with every rule, and breaks them without
//! each one.

use std::collections::BTreeSet;

use model::{
    cases::{self, Case},
    exploration::{explore, shortest_path},
    protocol::Protocol,
    rules::Rule,
    situations::SITUATIONS,
};

#[test]
fn with_every_rule_nothing_breaks_and_every_expected_situation_is_reached() {
    let mut expected = BTreeSet::new();
    for (name, scenario, situations) in cases::worlds() {
        let exploration = explore(&Protocol::new(scenario), 1);
        assert!(exploration.broken.is_empty(), "{name}: {:?}", exploration.broken);
        for situation in situations {
            assert!(exploration.reached.contains(situation), "{name}: not reached: {situation}");
        }
        expected.extend(situations);
    }
    let all = SITUATIONS.map(|(situation, _)| situation);
    assert_eq!(expected, BTreeSet::from_iter(&all), "every situation is expected in some world");
}

#[test]
fn without_a_rule_exactly_its_invariants_break() {
    let cases = cases::single_rules();
    let rules: Vec<_> = cases.iter().flat_map(|case| case.off.clone()).collect();
    assert_eq!(rules, Rule::ALL);
    cases.iter().for_each(breaks_as_documented);
}

#[test]
fn without_two_rules_that_cover_each_other_invariants_break() {
    cases::rule_pairs().iter().for_each(breaks_as_documented);
}

#[test]
fn the_known_limits_break_exactly_the_documented_invariants() {
    cases::known_limits().iter().for_each(breaks_as_documented);
}

fn breaks_as_documented(case: &Case) {
    let protocol = Protocol::without(case.scenario.clone(), &case.off);
    let steps = |invariant| shortest_path(&protocol, invariant).map_or(0, |path| path.len());
    let broken: Vec<_> = explore(&protocol, 1)
        .broken
        .into_iter()
        .map(|invariant| (invariant, steps(invariant)))
        .collect();
    assert_eq!(broken, case.broken, "without {:?}", case.off);
}
