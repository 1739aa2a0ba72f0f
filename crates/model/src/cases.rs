//! What each rule is for: the invariants that break without it, in a world
//! that is just large enough; and the worlds in which nothing may break with
//! every rule kept.

use crate::{
    properties::Invariant,
    rules::Rule,
    scenario::{Faults, Movement, Scenario, movement},
    state::AccountId,
};

/// Rules that are off, and what breaks.
#[derive(Debug, Clone)]
pub struct Case {
    /// The rules.
    pub off: Vec<Rule>,
    /// Where.
    pub scenario: Scenario,
    /// What breaks there, each with the least number of steps.
    pub broken: Vec<(Invariant, usize)>,
}

/// No faults.
const NONE: Faults =
    Faults { crashes: 0, wipes: 0, held_up: 0, slow: 0, windows: 0, advisories: 0, redrives: 0 };
const CRASH: Faults = Faults { crashes: 1, ..NONE };
const CRASH_AND_REDRIVE: Faults = Faults { crashes: 1, redrives: 1, ..NONE };
const LOST_ADVISORY: Faults = Faults { crashes: 1, advisories: 1, ..NONE };

/// A deposit alone.
fn deposit() -> Scenario {
    Scenario::of(&[movement(1)])
}

/// A deposit, and a withdrawal that is refused if it comes first.
fn deposit_and_withdrawal() -> Scenario {
    Scenario::of(&[movement(1), movement(-1)])
}

fn unreadable() -> Scenario {
    Scenario { unreadable: true, ..deposit() }
}

/// One crash uses the deliveries of a message up.
fn delivered_once(scenario: Scenario) -> Scenario {
    Scenario { max_deliver: 1, ..scenario }
}

/// Every rule alone, in the order of [`Rule::ALL`]. Two stand behind each
/// other: alone, neither is missed.
#[must_use]
pub fn alone() -> Vec<Case> {
    let case = |rule| {
        let (scenario, broken) = world_without(rule);
        Case { off: vec![rule], scenario, broken }
    };
    Rule::ALL.into_iter().map(case).collect()
}

fn world_without(rule: Rule) -> (Scenario, Vec<(Invariant, usize)>) {
    use Invariant::{Agreed, Kept, Once, Pinned, Projected, Settled, Told};
    match rule {
        Rule::RecordBeforeCommand => (deposit().with(CRASH), vec![(Agreed, 3)]),
        Rule::OutcomeBeforeResult => (deposit().with(CRASH), vec![(Agreed, 6)]),
        Rule::CommitBeforeAck => (unreadable().with(CRASH), vec![(Told, 6), (Kept, 3)]),
        Rule::AwaitPubAck => {
            (unreadable().with(Faults { held_up: 1, ..NONE }), vec![(Told, 5), (Kept, 4)])
        }
        Rule::RememberDecided => (deposit().with(CRASH), vec![(Once, 7)]),
        Rule::PinnedRefusals => {
            (deposit_and_withdrawal().with(CRASH), vec![(Pinned, 11), (Agreed, 8)])
        }
        Rule::RepublishOnDuplicate => {
            (deposit().with(CRASH_AND_REDRIVE), vec![(Settled, 5), (Told, 5)])
        }
        Rule::Redrive => (deposit().with(CRASH), vec![(Settled, 2)]),
        Rule::RedriveMessageId | Rule::ResultMessageId => {
            let steps = if rule == Rule::RedriveMessageId { 3 } else { 6 };
            (deposit().with(Faults { wipes: 1, ..NONE }), vec![(Settled, steps)])
        }
        Rule::OnlyPending => (
            Scenario { contradicting: true, ..deposit() },
            vec![(Pinned, 10), (Agreed, 10), (Projected, 10), (Kept, 8)],
        ),
        Rule::OnlyNewerSeq => (deposit_and_withdrawal(), vec![(Projected, 14)]),
        Rule::DeadLetter => (unreadable(), vec![(Kept, 1)]),
        Rule::DeadLetterBeforeTerm => (unreadable().with(CRASH), vec![(Kept, 4)]),
        Rule::WorkOffUsedUp => (
            delivered_once(Scenario { contradicting: true, ..deposit() }).with(CRASH),
            vec![(Told, 7), (Kept, 10)],
        ),
        Rule::Sweep => (
            Scenario { backlog: Some(0), ..delivered_once(unreadable()) }.with(LOST_ADVISORY),
            vec![(Settled, 5), (Told, 5), (Kept, 4)],
        ),
        Rule::UniqueRecordId => {
            (deposit_and_withdrawal().with(CRASH_AND_REDRIVE), vec![(Once, 9), (Pinned, 14)])
        }
        Rule::LockAccounts | Rule::UniqueAccountSeq => {
            (deposit_and_withdrawal().with(CRASH_AND_REDRIVE), Vec::new())
        }
    }
}

/// Rules that stand behind each other: the lock on the accounts and the
/// transactions' unique numbers; the advisories about commands and the sweep.
#[must_use]
pub fn together() -> Vec<Case> {
    use Invariant::{Conserved, Kept, Told};
    use Rule::{LockAccounts, Sweep, UniqueAccountSeq, WorkOffUsedUp};
    let redrive = Faults { redrives: 1, ..NONE };
    let case = |off: &[Rule], scenario: Scenario, broken: &[(Invariant, usize)]| Case {
        off: off.to_vec(),
        scenario,
        broken: broken.to_vec(),
    };
    vec![
        // Two deposits start from the same balance.
        case(
            &[LockAccounts, UniqueAccountSeq],
            Scenario::of(&[movement(1), movement(1)]).with(redrive),
            &[(Conserved, 10)],
        ),
        case(
            &[WorkOffUsedUp, Sweep],
            delivered_once(unreadable()).with(CRASH),
            &[(Told, 4), (Kept, 3)],
        ),
    ]
}

/// What Passbook does not promise, though its rules are kept: see the crate's
/// documentation.
#[must_use]
pub fn limits() -> Vec<Case> {
    let stale = Scenario { stale_acks: true, ..unreadable() };
    let result = delivered_once(Scenario { contradicting: true, ..deposit() });
    let case = |scenario, broken: &[_]| Case { off: Vec::new(), scenario, broken: broken.to_vec() };
    vec![
        case(stale.with(Faults { wipes: 1, ..NONE }), &[(Invariant::Kept, 9)]),
        case(result.with(LOST_ADVISORY), &[(Invariant::Kept, 11)]),
    ]
}

/// A world in which every rule is kept, with what has to come up in it.
pub type World = (&'static str, Scenario, &'static [&'static str]);

/// The worlds.
#[must_use]
pub fn worlds() -> Vec<World> {
    let each_once = Faults { crashes: 1, wipes: 1, held_up: 1, slow: 1, redrives: 1, ..NONE };
    let other = Movement { account: AccountId(1), amount: 1 };
    let lost = Scenario { backlog: Some(0), ..delivered_once(unreadable()) };
    vec![
        (
            "a deposit; a crash, a loss, a late publication and a slow worker",
            Scenario { stale_acks: true, ..deposit() }.with(each_once),
            &[
                "everything is settled",
                "a record is settled after the broker lost something",
                "a redrive's command is in the stream beside the first",
                "two workers hold the same command",
                "a publication arrives that was published again meanwhile",
                "a result finds its record settled",
                "a worker's message was lost in a wipe and another one was delivered since",
            ],
        ),
        (
            "a deposit; the duplicate windows end",
            deposit().with(Faults { wipes: 0, windows: 1, ..each_once }),
            &["everything is settled", "a result finds its record settled"],
        ),
        (
            "a deposit and a withdrawal; a crash",
            deposit_and_withdrawal().with(CRASH_AND_REDRIVE),
            &[
                "everything is settled",
                "a refused withdrawal's command comes again after the money arrived",
                "a duplicate is answered after a crash between commit and publish",
                "results come in the wrong order",
            ],
        ),
        (
            "a deposit and a withdrawal; a loss",
            Scenario { stale_acks: true, ..deposit_and_withdrawal() }.with(Faults {
                wipes: 1,
                redrives: 1,
                ..NONE
            }),
            &[
                "everything is settled",
                "a record is settled after the broker lost something",
                "a refused withdrawal's command comes again after the money arrived",
            ],
        ),
        (
            "a deposit and a withdrawal; a late publication and a slow worker",
            deposit_and_withdrawal().with(Faults { held_up: 1, slow: 1, ..NONE }),
            &["everything is settled", "two workers hold the same command"],
        ),
        (
            "two withdrawals that one deposit covers once; a crash",
            Scenario::of(&[movement(1), movement(-1), movement(-1)]).with(CRASH),
            &["everything is settled", "results come in the wrong order"],
        ),
        (
            "a deposit and a withdrawal, and a deposit on another account; a crash",
            Scenario::of(&[movement(1), movement(-1), other]).with(CRASH),
            &["everything is settled"],
        ),
        (
            "messages from a wrong hand; crashes that use deliveries up",
            Scenario { contradicting: true, max_deliver: 2, ..unreadable() }.with(Faults {
                crashes: 2,
                wipes: 0,
                redrives: 0,
                ..each_once
            }),
            &[
                "everything is settled",
                "a message whose deliveries are used up is a dead letter",
                "an unreadable message is a dead letter",
                "a contradicting result is a dead letter",
            ],
        ),
        (
            "advisories are lost, and the redrive waits for an empty queue",
            lost.clone().with(Faults { crashes: 2, advisories: 2, redrives: 1, ..NONE }),
            &[
                "everything is settled",
                "a message whose advisory was lost is a dead letter",
                "a redrive's result settles a record whose first was given up unheard",
            ],
        ),
        (
            "advisories are lost, also while a slow worker still works",
            lost.with(Faults { crashes: 2, advisories: 2, slow: 1, ..NONE }),
            &["everything is settled", "a message whose advisory was lost is a dead letter"],
        ),
    ]
}
