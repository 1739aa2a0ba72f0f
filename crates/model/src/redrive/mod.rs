//! How the redrive finds PENDING records: by a list, and by a window of ids. The money model
//! lets the redrive claim any PENDING record; this model shows that it can.
//!
//! No clock is part of the model. Each record has any id, and the window moves anywhere. So
//! clocks may be wrong by any time, and jump either way. A transaction begins, inserts its
//! record, reads the window and commits in steps of its own, and so does a move of the
//! window. Replicas crash.
//!
//! # The reason for each rule
//!
//! | rule | breaks |
//! | --- | --- |
//! | `list-outside` | found (11) |
//! | `read-after-insert` | found (11) |
//! | `wait-for-fence` | found (11) |
//! | `fence-after-move` | found (9) |
//! | `read-before-move` | found (11) |
//! | `lock-window` | found (15) |
//!
//! `cargo run -p model -- --rules` prints the same table.
//!
//! The tests explore 0.3 million states. Two records and two moves have 1.7 million, and
//! nothing breaks either.
//!
//! # Counterparts in the code
//!
//! | model | system |
//! | --- | --- |
//! | `Begin`, `Insert`, `Commit` | `store/insert.rs` in the account-service |
//! | `ReadWindow` | the trigger of the migration `create_pending_list` |
//! | `See`, `Fence` | `find_window` and `fence` in `store/window.rs` |
//! | `StartMove`, `CommitMove` | `leave` in `store/window.rs` |
//!
//! # Simplifications
//!
//! - A range is read in one step. The system reads it in parts, which are commits of their
//!   own, and moves the window with the last one.
//! - The trigger may open the window upwards. No id leaves the window by that.
//! - No record settles. A record that settles needs no redrive, and leaves the list.

mod state_machine;

use stateright::Property;

use crate::{
    exploration::{self, World},
    named::{Rules, display_name, parse_name},
};
pub use state_machine::{Action, Ids, Record, State};

/// A rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A record outside the window is listed by its own transaction.
    ListOutside,
    /// A transaction reads the window after it has its id.
    ReadAfterInsert,
    /// A range is read only after the end of all transactions below the fence.
    WaitForFence,
    /// The fence is taken after the move of the window is committed.
    FenceAfterMove,
    /// The previous window is read before the window moves again.
    ReadBeforeMove,
    /// One replica at a time moves the window, from where it is.
    LockWindow,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 6] = [
        Self::ListOutside,
        Self::ReadAfterInsert,
        Self::WaitForFence,
        Self::FenceAfterMove,
        Self::ReadBeforeMove,
        Self::LockWindow,
    ];

    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ListOutside => "list-outside",
            Self::ReadAfterInsert => "read-after-insert",
            Self::WaitForFence => "wait-for-fence",
            Self::FenceAfterMove => "fence-after-move",
            Self::ReadBeforeMove => "read-before-move",
            Self::LockWindow => "lock-window",
        }
    }
}

display_name!(Rule);
parse_name!(Rule);

/// A condition that must always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// A committed record is listed, or its id is in the window, or in the range that is
    /// still to be read.
    Found,
}

impl Invariant {
    /// Every invariant.
    pub const ALL: [Self; 1] = [Self::Found];

    /// The name of its property.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
        }
    }
}

display_name!(Invariant);

/// The protocol within a bounded world.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// Records to insert.
    pub records: u8,
    /// Moves of the window.
    pub moves: u8,
    /// Crashes of a replica.
    pub crashes: u8,
    /// The rules in force.
    pub rules: Rules<Rule>,
}

/// A world without some rules.
pub type Case = exploration::Case<Protocol, Rule>;

/// One case for each rule, in the order of [`Rule::ALL`].
#[must_use]
pub fn single_rules() -> Vec<Case> {
    let case = |rule| {
        let (moves, steps) = match rule {
            Rule::ListOutside
            | Rule::ReadAfterInsert
            | Rule::WaitForFence
            | Rule::ReadBeforeMove => (2, 11),
            Rule::FenceAfterMove => (2, 9),
            Rule::LockWindow => (3, 15),
        };
        let protocol = Protocol { records: 1, moves, crashes: 0, rules: Rules::without(&[rule]) };
        Case { off: vec![rule], protocol, broken: vec![(Invariant::Found, steps)] }
    };
    Rule::ALL.into_iter().map(case).collect()
}

/// With every rule, nothing breaks in these worlds.
#[must_use]
pub fn worlds() -> Vec<World<Protocol>> {
    let world =
        |records, moves, crashes| Protocol { records, moves, crashes, rules: Rules::without(&[]) };
    vec![
        ("a record, two moves, a crash", world(1, 2, 1), &SITUATIONS),
        ("a record, three moves", world(1, 3, 0), &SITUATIONS),
    ]
}

const OUTSIDE: &str = "a record outside the window is listed by its transaction";
const LEFT: &str = "a record is listed when the window has left it";
const LATE: &str = "a record is committed after the window has left it";
/// The situations that some world must reach.
const SITUATIONS: [&str; 3] = [OUTSIDE, LEFT, LATE];

fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always(Invariant::Found.name(), |_, state: &State| {
            state
                .committed()
                .all(|(id, is_listed)| is_listed || state.inside.has(id) || state.left.has(id))
        }),
        Property::sometimes(OUTSIDE, |_, state: &State| {
            let listed =
                |record: &Record| matches!(record, Record::Inserted { listed: Some(true), .. });
            state.records.iter().any(listed)
        }),
        Property::sometimes(LEFT, |_, state: &State| state.listed_by_move),
        Property::sometimes(LATE, |_, state: &State| {
            state
                .committed()
                .any(|(id, is_listed)| !is_listed && !state.inside.has(id) && state.left.has(id))
        }),
    ]
}
