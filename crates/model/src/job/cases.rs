//! The worlds of the tests, as in the money model.

use super::{
    invariants::Invariant,
    protocol::Protocol,
    rules::Rule,
    scenario::{Faults, Scenario},
};
use crate::exploration::{self, World};

/// A world without some rules.
pub type Case = exploration::Case<Protocol, Rule>;

fn case(off: &[Rule], scenario: Scenario, broken: Vec<(Invariant, usize)>) -> Case {
    Case { off: off.to_vec(), protocol: Protocol::without(scenario, off), broken }
}

const NONE: Faults = Faults {
    crashes: 0,
    stops: 0,
    freezes: 0,
    failures: 0,
    cancels: 0,
    wipes: 0,
    clock_jumps: 0,
    delayed_publications: 0,
    slow_workers: 0,
    redrives: 0,
    refusals: 0,
    refused_letters: 0,
};

fn one() -> Scenario {
    Scenario::of(1)
}

fn two() -> Scenario {
    Scenario::of(2)
}

fn stray() -> Scenario {
    Scenario { stray: true, ..one() }
}

/// One case for each rule, in the order of [`Rule::ALL`]. Three of the rules are covered
/// by others: nothing breaks without one of them.
#[must_use]
pub fn single_rules() -> Vec<Case> {
    let without = |rule| {
        let (scenario, broken) = world_without(rule);
        case(&[rule], scenario, broken)
    };
    Rule::ALL.into_iter().map(without).collect()
}

fn world_without(rule: Rule) -> (Scenario, Vec<(Invariant, usize)>) {
    use Invariant::{
        Alerted, Cancelled, Clean, Final, Five, NoFalseAlarm, NotHeldUp, NothingDropped,
        OneAtATime, OneSet, Order, Settled,
    };
    let crash = Faults { crashes: 1, ..NONE };
    let wipe = Faults { wipes: 1, redrives: 1, ..NONE };
    let freeze = Faults { freezes: 1, ..NONE };
    let slow = Faults { slow_workers: 1, ..NONE };
    match rule {
        Rule::RowBeforeMessage => (one(), vec![(NoFalseAlarm, 4)]),
        Rule::CommitBeforeAck => (stray().with(crash), vec![(NothingDropped, 3)]),
        Rule::Redrive => (one().with(crash), vec![(Settled, 2)]),
        Rule::RedriveMessageId => (one().with(crash), vec![(Settled, 5)]),
        Rule::ExpireLost => (one().with(crash), vec![(Settled, 5), (Clean, 6)]),
        Rule::WaitForLease => (one().with(slow), vec![(OneAtATime, 8)]),
        Rule::Heartbeat => (one().with(slow), vec![(OneAtATime, 9)]),
        Rule::RunningCheck => (two().with(wipe), vec![(OneAtATime, 9)]),
        Rule::ClaimUnderLock => (two().with(wipe), vec![(OneAtATime, 11)]),
        Rule::OldestFirst => (two(), vec![(Order, 5)]),
        Rule::FenceByAttempt => (two().with(freeze), vec![(OneAtATime, 16), (OneSet, 12)]),
        Rule::OnlyRunning => {
            (Scenario { max_failures: 1, ..one() }.with(freeze), vec![(Final, 8), (OneSet, 9)])
        }
        Rule::Requeue => (two().with(Faults { failures: 1, ..NONE }), vec![(NotHeldUp, 6)]),
        Rule::CountCrashes => {
            (one().with(Faults { crashes: 2, redrives: 2, ..NONE }), vec![(Five, 14)])
        }
        Rule::SpareHandOvers => {
            (one().with(Faults { stops: 2, redrives: 1, ..NONE }), vec![(Five, 12)])
        }
        Rule::AlertWithFailure => (
            one().with(Faults { failures: 2, crashes: 1, redrives: 1, ..NONE }),
            vec![(Alerted, 13)],
        ),
        Rule::RepeatAlert => (
            one().with(Faults { failures: 2, refusals: 1, redrives: 1, ..NONE }),
            vec![(Alerted, 13)],
        ),
        Rule::CancelAtCommit => (one().with(Faults { cancels: 1, ..NONE }), vec![(Cancelled, 7)]),
        Rule::CancelBeforeRetry => (
            one().with(Faults { cancels: 1, crashes: 1, failures: 1, redrives: 1, ..NONE }),
            vec![(Cancelled, 12)],
        ),
        Rule::PathsByAttempt => (one().with(freeze), vec![(OneSet, 12)]),
        Rule::CleanUp => (one().with(crash), vec![(Clean, 6)]),
        Rule::SpareRunning => (one(), vec![(OneSet, 7)]),
        Rule::DeadLetter => (stray(), vec![(NothingDropped, 1)]),
        Rule::DeadLetterBeforeTerm => (stray().with(crash), vec![(NothingDropped, 4)]),
        Rule::RequeueUnlettered => {
            (stray().with(Faults { refused_letters: 1, ..NONE }), vec![(NothingDropped, 4)])
        }
        Rule::WorkOffUsedUp => {
            (Scenario { max_deliver: 1, ..stray() }.with(crash), vec![(NothingDropped, 3)])
        }
        Rule::SettleIdle => (
            one().with(Faults { crashes: 1, clock_jumps: 1, redrives: 1, ..NONE }),
            vec![(Settled, 5)],
        ),
        Rule::OneDelivery | Rule::KeepInProgress => {
            (two().with(Faults { crashes: 1, redrives: 1, ..NONE }), vec![])
        }
    }
}

/// Pairs of rules that cover each other.
#[must_use]
pub fn rule_pairs() -> Vec<Case> {
    vec![
        case(&[Rule::OneDelivery, Rule::RunningCheck], two(), vec![(Invariant::OneAtATime, 8)]),
        case(&[Rule::KeepInProgress, Rule::RunningCheck], two(), vec![(Invariant::OneAtATime, 7)]),
    ]
}

/// Cases of broken invariants with every rule in force: those of the acks of lost
/// messages, as in the money model.
#[must_use]
pub fn known_limits() -> Vec<Case> {
    let stale = Scenario { stale_acks: true, ..stray() };
    let wipe = Faults { wipes: 1, ..NONE };
    vec![case(&[], stale.with(wipe), vec![(Invariant::NothingDropped, 10)])]
}

/// The worlds to explore with every rule in force.
#[must_use]
pub fn worlds() -> Vec<World<Protocol>> {
    let worlds: Vec<(_, _, &[_])> = vec![
        (
            "a report; a crash, a freeze, a wipe, a late publication, a slow worker",
            Scenario { stale_acks: true, max_failures: 3, ..one() }.with(Faults {
                crashes: 1,
                freezes: 1,
                wipes: 1,
                delayed_publications: 1,
                slow_workers: 1,
                redrives: 1,
                ..NONE
            }),
            &[
                "every report succeeds",
                "a report succeeds after the broker lost its message",
                "a report succeeds after a crash",
                "a worker with a message waits while a report runs",
                "a frozen worker has files to commit, and another attempt runs",
                "a frozen worker has files to commit, and the report has ended",
                "the storage has the files of two attempts",
            ],
        ),
        (
            "a report; a hand-over, a freeze, a failure and a cancellation",
            one().with(Faults {
                stops: 1,
                freezes: 1,
                failures: 1,
                cancels: 1,
                redrives: 1,
                ..NONE
            }),
            &[
                "a report succeeds after a hand-over",
                "a cancellation arrives between the files and the commit",
                "a cancelled report has files in the storage",
            ],
        ),
        (
            "a report; crashes, a failure and a receiver that refuses the alert",
            Scenario { max_deliver: 2, ..one() }.with(Faults {
                crashes: 2,
                failures: 1,
                refusals: 1,
                redrives: 1,
                ..NONE
            }),
            &["an alert is taken after a refusal"],
        ),
        (
            "two reports; a crash and a wipe",
            two().with(Faults { crashes: 1, wipes: 1, redrives: 1, ..NONE }),
            &[
                "every report succeeds",
                "an attempt runs for another report than its message names",
                "a worker with a message waits while a report runs",
            ],
        ),
        (
            "two reports; a crash, a stop, and a clock of the broker that goes back",
            two().with(Faults { crashes: 1, stops: 1, clock_jumps: 1, redrives: 1, ..NONE }),
            &["every report succeeds", "a report succeeds although its message was held"],
        ),
        (
            "two reports; failures, and a worker that is frozen",
            two().with(Faults { failures: 1, freezes: 1, redrives: 1, ..NONE }),
            &["a report fails while a younger one succeeds"],
        ),
        (
            "a stray message; crashes until max_deliver is reached, and a wipe",
            Scenario { max_deliver: 2, ..stray() }.with(Faults {
                crashes: 2,
                wipes: 1,
                refused_letters: 1,
                ..NONE
            }),
            &["a stray message is dead-lettered"],
        ),
    ];
    let world = |(name, scenario, situations)| (name, Protocol::new(scenario), situations);
    worlds.into_iter().map(world).collect()
}
