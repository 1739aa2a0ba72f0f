//! The invariants of the architecture page, as conditions on a state. Each must
//! hold in every state.

use stateright::Property;

use crate::{
    money::{
        databases::{AccountId, Balance, Outcome, Record, RecordId},
        drain::Schedule,
        protocol::Protocol,
        scenario::Poison,
        state::{State, Stray},
        streams::{Body, DeadLetter, MessageId, StreamName},
    },
    named::display_name,
};

/// A condition that must always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// A record is applied to a balance at most once.
    Once,
    /// A decision never changes, neither in the ledger nor in the record.
    Pinned,
    /// A balance is the sum of its applied transactions, which are numbered
    /// without a gap. It is never below zero.
    Conserved,
    /// A settled record matches the ledger, and every ledger row belongs to a
    /// requested record.
    Agreed,
    /// A projected balance is the one after the newest settled transaction.
    Projected,
    /// Every accepted record is settled in the end, except a record with a poison
    /// command.
    Settled,
    /// A record with a stored command settles without a redrive, or there is a
    /// dead letter about it. Holds while the broker loses no messages and no
    /// advisory about a result.
    NoRedriveNeeded,
    /// A message that can't be processed becomes a dead letter in the end, and
    /// stays in its stream until then.
    NothingDropped,
    /// A command or result that can be processed is not dead-lettered. Holds until a
    /// crash or a slow worker: from then on, a message may use up its deliveries.
    NeighboursSpared,
}

impl Invariant {
    /// Every invariant.
    pub const ALL: [Self; 9] = [
        Self::Once,
        Self::Pinned,
        Self::Conserved,
        Self::Agreed,
        Self::Projected,
        Self::Settled,
        Self::NoRedriveNeeded,
        Self::NothingDropped,
        Self::NeighboursSpared,
    ];

    /// The name in the output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Pinned => "pinned",
            Self::Conserved => "conserved",
            Self::Agreed => "agreed",
            Self::Projected => "projected",
            Self::Settled => "settled",
            Self::NoRedriveNeeded => "no-redrive-needed",
            Self::NothingDropped => "nothing-dropped",
            Self::NeighboursSpared => "neighbours-spared",
        }
    }

    const fn condition(self) -> fn(&Protocol, &State) -> bool {
        match self {
            Self::Once => once,
            Self::Pinned => pinned,
            Self::Conserved => conserved,
            Self::Agreed => agreed,
            Self::Projected => projected,
            Self::Settled => settled,
            Self::NoRedriveNeeded => no_redrive_needed,
            Self::NothingDropped => nothing_dropped,
            Self::NeighboursSpared => neighbours_spared,
        }
    }
}

display_name!(Invariant);

/// The invariants in the form of the checker.
pub(crate) fn properties() -> Vec<Property<Protocol>> {
    Invariant::ALL
        .into_iter()
        .map(|invariant| Property::always(invariant.name(), invariant.condition()))
        .collect()
}

fn times_applied(state: &State, record: RecordId) -> usize {
    let rows = state.ledger.transactions.iter().filter(|row| row.record == record);
    rows.filter(|row| matches!(row.outcome, Outcome::Applied { .. })).count()
}

fn once(protocol: &Protocol, state: &State) -> bool {
    protocol.scenario.records(None).all(|record| times_applied(state, record) <= 1)
}

const fn pinned(_: &Protocol, state: &State) -> bool {
    !state.decision_changed
}

fn conserved(protocol: &Protocol, state: &State) -> bool {
    protocol.scenario.accounts().all(|account| {
        let mut sum = Balance::default();
        for row in &state.ledger.transactions {
            let request = protocol.scenario.request(row.record);
            let Some(request) = request.filter(|request| request.account == account) else {
                continue;
            };
            let Outcome::Applied { balance_after, account_seq } = row.outcome else { continue };
            sum = Balance { amount: sum.amount + request.amount, seq: sum.seq + 1 };
            if sum != (Balance { amount: balance_after, seq: account_seq }) || sum.amount < 0 {
                return false;
            }
        }
        state.ledger.balances.get(usize::from(account.0)) == Some(&sum)
    })
}

fn agreed(_: &Protocol, state: &State) -> bool {
    let matches_ledger = |record: &Record| match record {
        Record::Settled(result) => state.ledger.transactions.contains(result),
        Record::NotRequested | Record::Pending { .. } => true,
    };
    let requested = |id| !matches!(state.record(id), Some(Record::NotRequested) | None);
    state.records.iter().all(matches_ledger)
        && state.ledger.transactions.iter().all(|row| requested(row.record))
}

fn projected(protocol: &Protocol, state: &State) -> bool {
    let newest = |account: AccountId| {
        let records = protocol.scenario.records(Some(account));
        let outcomes = records.filter_map(|record| match state.record(record) {
            Some(Record::Settled(result)) => Some(result.outcome),
            _ => None,
        });
        let balances = outcomes.filter_map(|outcome| match outcome {
            Outcome::Applied { balance_after, account_seq } => {
                Some(Balance { amount: balance_after, seq: account_seq })
            }
            Outcome::Refused => None,
        });
        balances.max_by_key(|balance| balance.seq).unwrap_or_default()
    };
    protocol
        .scenario
        .accounts()
        .all(|account| state.projected.get(usize::from(account.0)) == Some(&newest(account)))
}

fn settled(protocol: &Protocol, state: &State) -> bool {
    !protocol.awaits_settlement(state)
        || [Schedule::First, Schedule::Last]
            .into_iter()
            .all(|schedule| !protocol.awaits_settlement(&protocol.drain(state, true, schedule)))
}

fn no_redrive_needed(protocol: &Protocol, state: &State) -> bool {
    let lost = state.remaining.wipes < protocol.scenario.faults.wipes
        || state.remaining.discards < protocol.scenario.faults.discards
        || state.results.messages.iter().any(|message| message.advisory_lost);
    if lost || !state.records.iter().any(Record::is_pending) {
        return true;
    }
    let command_sent = |record: RecordId| {
        let commands = &state.commands.messages;
        state.ledger.find(record).is_some()
            || commands.iter().any(|message| {
                message.id.message.parts.any(|part| part.body == Body::Command(record))
            })
    };
    let drained = protocol.drain(state, false, Schedule::First);
    let dead_lettered = |record: RecordId| {
        drained.dead_letters.iter().any(|dead_letter| match dead_letter.part.body {
            Body::Command(command) => command == record,
            Body::Result(result) => result.record == record,
            Body::Unreadable => false,
        })
    };
    protocol.scenario.records(None).all(|record| {
        !drained.record(record).is_some_and(|row| row.is_pending())
            || !command_sent(record)
            || dead_lettered(record)
    })
}

fn nothing_dropped(protocol: &Protocol, state: &State) -> bool {
    if !state.strays.contains(&Stray::Sent) {
        return true;
    }
    let is_stray = |name: StreamName, dead_letter: &DeadLetter| {
        dead_letter.message.stream == name && dead_letter.part.id == MessageId::None
    };
    let drained = protocol.drain(state, true, Schedule::First);
    StreamName::ALL.into_iter().zip(&state.strays).all(|(name, stray)| {
        let dead_lettered =
            |state: &State| state.dead_letters.iter().any(|letter| is_stray(name, letter));
        let stored = || {
            let messages = &state.stream(name).messages;
            messages.iter().any(|message| message.id.message.is_stray())
        };
        *stray != Stray::Sent || (dead_lettered(&drained) && (dead_lettered(state) || stored()))
    })
}

fn neighbours_spared(protocol: &Protocol, state: &State) -> bool {
    let (remaining, allowed) = (&state.remaining, &protocol.scenario.faults);
    let deliveries_are_lost = remaining.crashes < allowed.crashes
        || remaining.slow_workers < allowed.slow_workers
        || protocol.scenario.poison == Some(Poison::Kills);
    let processable = |dead_letter: &DeadLetter| match dead_letter.part.body {
        Body::Command(record) => protocol.scenario.poison(record).is_none(),
        Body::Result(result) => match state.record(result.record) {
            Some(Record::Settled(earlier)) => earlier == result,
            Some(Record::Pending { .. }) => true,
            Some(Record::NotRequested) | None => false,
        },
        Body::Unreadable => false,
    };
    deliveries_are_lost || !state.dead_letters.iter().any(processable)
}
