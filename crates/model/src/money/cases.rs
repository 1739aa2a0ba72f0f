//! The worlds of the tests. For each rule, a world just large enough to break
//! invariants without it. Also larger worlds: with every rule in force, nothing
//! may break in them.

use crate::{
    exploration::{self, World},
    money::{
        databases::AccountId,
        invariants::Invariant,
        protocol::Protocol,
        rules::Rule,
        scenario::{ClientRequest, Faults, Poison, Scenario, request},
    },
};

/// A world without some rules.
pub type Case = exploration::Case<Protocol, Rule>;

fn case(off: &[Rule], scenario: Scenario, broken: Vec<(Invariant, usize)>) -> Case {
    Case { off: off.to_vec(), protocol: Protocol::without(scenario, off), broken }
}

const NONE: Faults = Faults {
    crashes: 0,
    wipes: 0,
    delayed_publications: 0,
    slow_workers: 0,
    expired_windows: 0,
    lost_advisories: 0,
    redrives: 0,
    lowered_limits: 0,
    held_rows: 0,
    discards: 0,
};
const CRASH: Faults = Faults { crashes: 1, ..NONE };
const CRASH_AND_REDRIVE: Faults = Faults { crashes: 1, redrives: 1, ..NONE };
const LOST_ADVISORY: Faults = Faults { crashes: 1, lost_advisories: 1, ..NONE };

/// One deposit.
fn deposit() -> Scenario {
    Scenario::of(&[request(1)])
}

/// A deposit and a withdrawal. The withdrawal is refused if it is decided first.
fn deposit_and_withdrawal() -> Scenario {
    Scenario::of(&[request(1), request(-1)])
}

fn unreadable() -> Scenario {
    Scenario { unreadable: true, ..deposit() }
}

/// Two deposits. Their commands and results may share messages.
fn bundle() -> Scenario {
    Scenario { max_parts: 2, ..Scenario::of(&[request(1), request(1)]) }
}

/// The same, but the first command is poison.
fn poisoned(poison: Poison) -> Scenario {
    Scenario { poison: Some(poison), ..bundle() }
}

/// `max_deliver` is 1: after one crash, a message is not delivered again.
fn delivered_once(scenario: Scenario) -> Scenario {
    Scenario { max_deliver: 1, ..scenario }
}

/// One case for each rule, in the order of [`Rule::ALL`]. Two of the rules cover
/// each other: nothing breaks without one of them.
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
        Agreed, NeighboursSpared, NoRedriveNeeded, NothingDropped, Once, Pinned, Projected, Settled,
    };
    match rule {
        Rule::RecordBeforeCommand => {
            (deposit().with(CRASH), vec![(Agreed, 3), (NeighboursSpared, 8)])
        }
        Rule::OutcomeBeforeResult => (deposit().with(CRASH), vec![(Agreed, 6)]),
        Rule::CommitBeforeAck => {
            (unreadable().with(CRASH), vec![(NoRedriveNeeded, 6), (NothingDropped, 3)])
        }
        Rule::AwaitPubAck => (
            unreadable().with(Faults { delayed_publications: 1, ..NONE }),
            vec![(NoRedriveNeeded, 5), (NothingDropped, 4)],
        ),
        Rule::RememberDecided => (deposit().with(CRASH), vec![(Once, 7)]),
        Rule::PinnedRefusals => {
            (deposit_and_withdrawal().with(CRASH), vec![(Pinned, 11), (Agreed, 8)])
        }
        Rule::RepublishOnDuplicate => {
            (deposit().with(CRASH_AND_REDRIVE), vec![(Settled, 5), (NoRedriveNeeded, 5)])
        }
        Rule::Redrive => (deposit().with(CRASH), vec![(Settled, 2)]),
        Rule::RedriveMessageId | Rule::ResultMessageId => {
            let steps = if rule == Rule::RedriveMessageId { 3 } else { 6 };
            (deposit().with(Faults { wipes: 1, ..NONE }), vec![(Settled, steps)])
        }
        Rule::OnlyPending => (
            Scenario { contradicting: true, ..deposit() },
            vec![(Pinned, 10), (Agreed, 10), (Projected, 10), (NothingDropped, 8)],
        ),
        Rule::OnlyNewerSeq => (deposit_and_withdrawal(), vec![(Projected, 14)]),
        Rule::DeadLetter => (unreadable(), vec![(NothingDropped, 1)]),
        Rule::DeadLetterBeforeTerm => (unreadable().with(CRASH), vec![(NothingDropped, 4)]),
        Rule::WorkOffUsedUp => (
            delivered_once(Scenario { contradicting: true, ..deposit() }).with(CRASH),
            vec![(NoRedriveNeeded, 7), (NothingDropped, 10)],
        ),
        Rule::Sweep => (
            Scenario { backlog: Some(0), ..delivered_once(unreadable()) }.with(LOST_ADVISORY),
            vec![(Settled, 5), (NoRedriveNeeded, 5), (NothingDropped, 4)],
        ),
        Rule::UniqueRecordId => {
            (deposit_and_withdrawal().with(CRASH_AND_REDRIVE), vec![(Once, 9), (Pinned, 14)])
        }
        Rule::LockAccounts | Rule::UniqueAccountSeq => {
            (deposit_and_withdrawal().with(CRASH_AND_REDRIVE), Vec::new())
        }
        Rule::DigestMessageId => (bundle().with(CRASH), vec![(NoRedriveNeeded, 7)]),
        Rule::AckAllParts | Rule::AwaitEveryPubAck => {
            (bundle().with(CRASH), vec![(NoRedriveNeeded, 9)])
        }
        Rule::DeadLetterOnePart => {
            (delivered_once(poisoned(Poison::Fails)), vec![(NeighboursSpared, 6)])
        }
        Rule::HandBackWhole => (poisoned(Poison::Fails), vec![(NoRedriveNeeded, 2)]),
        Rule::UsedUpEachPart => (delivered_once(bundle()).with(CRASH), vec![(NoRedriveNeeded, 5)]),
        Rule::TakeApart => (
            delivered_once(bundle()).with(Faults { lowered_limits: 1, ..NONE }),
            vec![(NeighboursSpared, 9)],
        ),
        Rule::KeepLocked => (
            delivered_once(deposit()).with(Faults { held_rows: 1, ..NONE }),
            vec![(NeighboursSpared, 5)],
        ),
        Rule::RedriveAlone => (delivered_once(poisoned(Poison::Kills)), vec![(Settled, 2)]),
    }
}

/// Pairs of rules that cover each other: the account lock and the unique
/// transaction numbers; the advisories about commands and the sweep.
#[must_use]
pub fn rule_pairs() -> Vec<Case> {
    use Invariant::{Conserved, NoRedriveNeeded, NothingDropped};
    use Rule::{LockAccounts, Sweep, UniqueAccountSeq, WorkOffUsedUp};
    let redrive = Faults { redrives: 1, ..NONE };
    vec![
        // Two deposits start from the same balance.
        case(
            &[LockAccounts, UniqueAccountSeq],
            Scenario::of(&[request(1), request(1)]).with(redrive),
            vec![(Conserved, 10)],
        ),
        case(
            &[WorkOffUsedUp, Sweep],
            delivered_once(unreadable()).with(CRASH),
            vec![(NoRedriveNeeded, 4), (NothingDropped, 3)],
        ),
    ]
}

/// Cases of broken invariants with every rule in force. The crate's
/// documentation explains both.
#[must_use]
pub fn known_limits() -> Vec<Case> {
    let stale = Scenario { stale_acks: true, ..unreadable() };
    let result = delivered_once(Scenario { contradicting: true, ..deposit() });
    vec![
        case(&[], stale.with(Faults { wipes: 1, ..NONE }), vec![(Invariant::NothingDropped, 9)]),
        case(&[], result.with(LOST_ADVISORY), vec![(Invariant::NothingDropped, 11)]),
    ]
}

/// The worlds to explore with every rule in force.
#[must_use]
pub fn worlds() -> Vec<World<Protocol>> {
    let one_of_each = Faults {
        crashes: 1,
        wipes: 1,
        delayed_publications: 1,
        slow_workers: 1,
        redrives: 1,
        ..NONE
    };
    let other_account = ClientRequest { account: AccountId(1), amount: 1 };
    let paused_redrive = Scenario { backlog: Some(0), ..delivered_once(unreadable()) };
    let worlds: Vec<(_, _, &[_])> = vec![
        (
            "a deposit; a crash, a wipe, a delayed publication and a slow worker",
            Scenario { stale_acks: true, ..deposit() }.with(one_of_each),
            &[
                "every record is settled",
                "a record settles after the broker lost data",
                "the stream holds a command and its redrive",
                "two workers process the same command",
                "a delayed publication arrives after it was published again",
                "a result arrives for a settled record",
                "a worker's message was lost in a wipe, and another was delivered since",
            ],
        ),
        (
            "a deposit; the duplicate windows end",
            deposit().with(Faults { wipes: 0, expired_windows: 1, ..one_of_each }),
            &["every record is settled", "a result arrives for a settled record"],
        ),
        (
            "a deposit and a withdrawal; a crash",
            deposit_and_withdrawal().with(CRASH_AND_REDRIVE),
            &[
                "every record is settled",
                "the command of a refused withdrawal returns after money arrived",
                "a duplicate is answered after a crash between commit and publish",
                "results arrive in the wrong order",
            ],
        ),
        (
            "a deposit and a withdrawal; a wipe",
            Scenario { stale_acks: true, ..deposit_and_withdrawal() }.with(Faults {
                wipes: 1,
                redrives: 1,
                ..NONE
            }),
            &[
                "every record is settled",
                "a record settles after the broker lost data",
                "the command of a refused withdrawal returns after money arrived",
            ],
        ),
        (
            "a deposit and a withdrawal; a delayed publication and a slow worker",
            deposit_and_withdrawal().with(Faults {
                delayed_publications: 1,
                slow_workers: 1,
                ..NONE
            }),
            &["every record is settled", "two workers process the same command"],
        ),
        (
            "a deposit that covers one of two withdrawals in shared messages; a crash",
            Scenario { max_parts: 2, ..Scenario::of(&[request(1), request(-1), request(-1)]) }
                .with(CRASH),
            &["every record is settled", "results arrive in the wrong order"],
        ),
        (
            "a deposit and a withdrawal, and a deposit on another account; a crash",
            Scenario::of(&[request(1), request(-1), other_account]).with(CRASH),
            &["every record is settled"],
        ),
        (
            "stray messages; crashes until max_deliver is reached",
            Scenario { contradicting: true, max_deliver: 2, ..unreadable() }.with(Faults {
                crashes: 2,
                wipes: 0,
                redrives: 0,
                ..one_of_each
            }),
            &[
                "every record is settled",
                "a message at max_deliver is dead-lettered",
                "an unreadable message is dead-lettered",
                "a contradicting result is dead-lettered",
            ],
        ),
        (
            "lost advisories, and a redrive that waits for an empty queue",
            paused_redrive.clone().with(Faults {
                crashes: 2,
                lost_advisories: 2,
                redrives: 1,
                ..NONE
            }),
            &[
                "every record is settled",
                "a message with a lost advisory is dead-lettered",
                "a redrive's result settles a record after an advisory was lost",
            ],
        ),
        (
            "lost advisories, some of them about the message of a slow worker",
            paused_redrive.with(Faults { crashes: 2, lost_advisories: 2, slow_workers: 1, ..NONE }),
            &["every record is settled", "a message with a lost advisory is dead-lettered"],
        ),
        (
            "two deposits in shared messages; a crash",
            Scenario { account_services: 1, ..bundle() }.with(CRASH_AND_REDRIVE),
            &[
                "every record is settled",
                "a message returns with one of its commands decided, and one not",
                "a message returns with one of its results settled, and one not",
                "a result is stored in two messages with different neighbours",
            ],
        ),
        (
            "two deposits in shared messages; a delayed publication and a slow worker",
            bundle().with(Faults { delayed_publications: 1, slow_workers: 1, ..NONE }),
            &["every record is settled", "two workers process the same command"],
        ),
        (
            "two deposits in shared messages; a wipe",
            Scenario { account_services: 1, ..bundle() }.with(Faults {
                wipes: 1,
                redrives: 1,
                ..NONE
            }),
            &["every record is settled", "a record settles after the broker lost data"],
        ),
        (
            "three deposits in shared messages; a crash",
            Scenario {
                account_services: 1,
                transaction_services: 1,
                max_parts: 3,
                ..Scenario::of(&[request(1); 3])
            }
            .with(CRASH),
            &["every record is settled"],
        ),
        (
            "two deposits in shared messages; a lowered limit, a held row and a crash",
            bundle().with(Faults { crashes: 1, lowered_limits: 1, held_rows: 1, ..NONE }),
            &[
                "every record is settled",
                "a message with several commands is settled though the broker refuses such ones",
            ],
        ),
        (
            "a deposit and a withdrawal; their results are discarded",
            deposit_and_withdrawal().with(Faults { discards: 2, redrives: 1, ..NONE }),
            &["every record is settled", "a record settles after a result was discarded"],
        ),
        (
            "poison kills the worker of a shared message",
            delivered_once(poisoned(Poison::Kills)).with(Faults { redrives: 2, ..NONE }),
            &[
                "each command of a bundle at max_deliver is dead-lettered",
                "a command settles on its own, while its poison neighbour is PENDING",
            ],
        ),
        (
            "poison fails in a shared message; a crash",
            Scenario { max_deliver: 2, ..poisoned(Poison::Fails) }.with(CRASH_AND_REDRIVE),
            &["a command settles after its neighbour was dead-lettered"],
        ),
        (
            "two deposits in shared messages, and stray messages of two parts",
            Scenario { contradicting: true, unreadable: true, max_deliver: 2, ..bundle() },
            &["every record is settled", "a command settles after its neighbour was dead-lettered"],
        ),
        (
            "stray messages that repeat a part; a crash",
            Scenario { contradicting: true, max_parts: 3, max_deliver: 2, ..unreadable() }
                .with(CRASH),
            &[
                "every record is settled",
                "an unreadable message is dead-lettered",
                "a contradicting result is dead-lettered",
            ],
        ),
    ];
    let world = |(name, scenario, situations)| (name, Protocol::new(scenario), situations);
    worlds.into_iter().map(world).collect()
}
