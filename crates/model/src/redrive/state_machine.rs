//! The steps of transactions and of the redrive. Each step is atomic.

use stateright::{Model, Property};

use super::{Invariant, Protocol, Rule, SITUATIONS, properties};
use crate::exploration::{self, Explorable, Exploration};

/// The ids that clocks may make.
const IDS: u8 = 3;
/// Replicas of the account-service.
const REPLICAS: usize = 2;

/// A range of ids: from the first up to, but without, the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ids(u8, u8);

impl Ids {
    pub(super) const fn has(self, id: u8) -> bool {
        self.0 <= id && id < self.1
    }
}

/// A record, and the transaction that inserts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Record {
    /// Not inserted.
    None,
    /// The window was read before the record is inserted: against the rules.
    Read { id: u8, listed: bool },
    /// Inserted. `listed` is known once the window was read.
    Inserted { id: u8, transaction: u8, listed: Option<bool> },
    /// Committed.
    Committed { id: u8, listed: bool },
}

/// A window as a replica saw it, and its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Seen {
    inside: Ids,
    fence: Option<u8>,
}

/// An uncommitted move of the window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Move {
    from: Ids,
    next: Ids,
    /// The records that it lists.
    found: Vec<usize>,
    transaction: u8,
}

/// The redrive of a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Replica {
    seen: Option<Seen>,
    moving: Option<Move>,
}

/// The database, and the memory of the replicas.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) inside: Ids,
    /// The previous window, until it was read.
    pub(super) left: Ids,
    pub(super) records: Vec<Record>,
    /// Whether a move has listed a record.
    pub(super) listed_by_move: bool,
    next_transaction: u8,
    replicas: Vec<Replica>,
    moves: u8,
    crashes: u8,
}

impl State {
    /// The committed records: their ids, and whether they are listed.
    pub(super) fn committed(&self) -> impl Iterator<Item = (u8, bool)> {
        self.records.iter().filter_map(|record| match record {
            Record::Committed { id, listed } => Some((*id, *listed)),
            _ => None,
        })
    }

    fn begin_transaction(&mut self) -> u8 {
        self.next_transaction += 1;
        self.next_transaction - 1
    }

    /// Whether a transaction below the fence has not ended.
    fn is_unfinished_below(&self, fence: u8) -> bool {
        let inserting = |record: &Record| matches!(record, Record::Inserted { transaction, .. } if *transaction < fence);
        self.records.iter().any(inserting)
    }
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A transaction makes a record with this id.
    Begin(usize, u8),
    /// A transaction that has read the window inserts its record.
    Insert(usize),
    /// A transaction reads the window, and lists its record if the id is outside.
    ReadWindow(usize),
    /// A transaction commits.
    Commit(usize),
    /// A replica sees the window.
    See(usize),
    /// A replica takes the fence.
    Fence(usize),
    /// A replica reads the previous window, and moves the window.
    StartMove(usize, Ids),
    /// The move is committed.
    CommitMove(usize),
    /// A replica crashes, and starts again.
    Crash(usize),
}

impl Protocol {
    fn step_of_record(&self, state: &mut State, record: usize, action: Action) -> Option<()> {
        let inside = state.inside;
        let listed = |id| !inside.has(id) && self.rules.keeps(Rule::ListOutside);
        let next = match (action, *state.records.get(record)?) {
            (Action::Begin(_, id), Record::None) if self.rules.keeps(Rule::ReadAfterInsert) => {
                Record::Inserted { id, transaction: state.begin_transaction(), listed: None }
            }
            (Action::Begin(_, id), Record::None) => Record::Read { id, listed: listed(id) },
            (Action::Insert(_), Record::Read { id, listed }) => {
                let transaction = state.begin_transaction();
                Record::Inserted { id, transaction, listed: Some(listed) }
            }
            (Action::ReadWindow(_), Record::Inserted { id, transaction, listed: None }) => {
                Record::Inserted { id, transaction, listed: Some(listed(id)) }
            }
            (Action::Commit(_), Record::Inserted { id, listed: Some(listed), .. }) => {
                Record::Committed { id, listed }
            }
            _ => return None,
        };
        *state.records.get_mut(record)? = next;
        Some(())
    }

    fn see(state: &mut State, replica: usize) -> Option<()> {
        let inside = state.inside;
        let replica = state.replicas.get_mut(replica)?;
        let is_known = replica.seen.is_some_and(|seen| seen.inside == inside);
        if is_known || replica.moving.is_some() {
            return None;
        }
        replica.seen = Some(Seen { inside, fence: None });
        Some(())
    }

    fn fence(state: &mut State, replica: usize) -> Option<()> {
        let seen = state.replicas.get(replica)?.seen.filter(|seen| seen.fence.is_none())?;
        let fence = Some(state.begin_transaction());
        state.replicas.get_mut(replica)?.seen = Some(Seen { fence, ..seen });
        Some(())
    }

    fn start_move(&self, state: &mut State, replica: usize, next: Ids) -> Option<()> {
        let Replica { seen, moving } = state.replicas.get(replica)?;
        let Seen { inside: from, fence } = (*seen)?;
        let is_locked = state.replicas.iter().any(|replica| replica.moving.is_some());
        let is_free = !is_locked && from == state.inside || !self.rules.keeps(Rule::LockWindow);
        let is_over = !state.is_unfinished_below(fence?) || !self.rules.keeps(Rule::WaitForFence);
        if moving.is_some() || !is_free || !is_over || next == from {
            return None;
        }
        state.moves = state.moves.checked_sub(1)?;
        let is_left = |record: &Record| match record {
            Record::Committed { id, listed: false } => {
                state.left.has(*id) && !state.inside.has(*id)
            }
            _ => false,
        };
        let records = state.records.iter().enumerate();
        let mut found: Vec<_> =
            records.filter(|(_, record)| is_left(record)).map(|(index, _)| index).collect();
        if !self.rules.keeps(Rule::ReadBeforeMove) {
            found.clear();
        }
        let transaction = state.begin_transaction();
        let started = Some(Move { from, next, found, transaction });
        state.replicas.get_mut(replica)?.moving = started;
        Some(())
    }

    fn commit_move(&self, state: &mut State, replica: usize) -> Option<()> {
        let replica = state.replicas.get_mut(replica)?;
        let Move { from, next, found, transaction } = replica.moving.take()?;
        // Against the rules, the fence is the transaction of the move itself.
        let early = Seen { inside: next, fence: Some(transaction) };
        replica.seen = (!self.rules.keeps(Rule::FenceAfterMove)).then_some(early);
        (state.inside, state.left) = (next, from);
        for index in found {
            if let Some(Record::Committed { listed, .. }) = state.records.get_mut(index) {
                *listed = true;
                state.listed_by_move = true;
            }
        }
        Some(())
    }

    fn crash(state: &mut State, replica: usize) -> Option<()> {
        state.crashes = state.crashes.checked_sub(1)?;
        *state.replicas.get_mut(replica)? = Replica::default();
        Some(())
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            inside: Ids(0, IDS),
            left: Ids(0, 0),
            records: vec![Record::None; usize::from(self.records)],
            listed_by_move: false,
            next_transaction: 0,
            replicas: vec![Replica::default(); REPLICAS],
            moves: self.moves,
            crashes: self.crashes,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for record in 0..state.records.len() {
            actions.extend((0..IDS).map(|id| Action::Begin(record, id)));
            actions
                .extend([Action::Insert, Action::ReadWindow, Action::Commit].map(|to| to(record)));
        }
        for replica in 0..REPLICAS {
            let steps = [Action::See, Action::Fence, Action::CommitMove, Action::Crash];
            actions.extend(steps.map(|to| to(replica)));
            actions.extend((0..IDS).map(|id| Action::StartMove(replica, Ids(id, id + 1))));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(record, _)
            | Action::Insert(record)
            | Action::ReadWindow(record)
            | Action::Commit(record) => self.step_of_record(&mut state, record, action)?,
            Action::See(replica) => Self::see(&mut state, replica)?,
            Action::Fence(replica) => Self::fence(&mut state, replica)?,
            Action::StartMove(replica, next) => self.start_move(&mut state, replica, next)?,
            Action::CommitMove(replica) => self.commit_move(&mut state, replica)?,
            Action::Crash(replica) => Self::crash(&mut state, replica)?,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

impl Explorable for Protocol {
    type Invariant = Invariant;

    const INVARIANTS: &'static [Invariant] = &Invariant::ALL;

    fn name(invariant: Invariant) -> &'static str {
        invariant.name()
    }

    fn situations() -> Vec<&'static str> {
        SITUATIONS.to_vec()
    }

    fn explore(&self, threads: usize) -> Exploration<Self> {
        exploration::explore(self, threads)
    }

    fn shortest_path(&self, invariant: Invariant) -> Option<Vec<Self::Action>> {
        exploration::shortest_path(self, invariant)
    }
}
