//! The invariants of `ARCHITECTURE.md`, as conditions on a state. None of them
//! may ever be false.

use std::fmt;

use stateright::Property;

use crate::{
    broker::{Body, MessageId, Place, StreamName},
    drain::{Order, is_pending},
    protocol::Protocol,
    state::{AccountId, Balance, Outcome, Record, RecordId, State, Stray},
};

/// What must stay true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// No record is applied to a balance twice.
    Once,
    /// What was decided never changes, in the ledger and in the record.
    Pinned,
    /// A balance is the sum of what was applied, numbered without a gap, and
    /// never below zero.
    Conserved,
    /// A settled record says what the ledger says, and whatever the ledger
    /// decided was asked for by a record.
    Agreed,
    /// A projected balance is that of the newest settled transaction.
    Projected,
    /// What was accepted is settled in the end.
    Settled,
    /// As long as the broker loses nothing, no advisory about a result either,
    /// it is settled without the redrive once its command is in the stream, or
    /// there is a dead letter.
    Told,
    /// What can't be processed is a dead letter in the end, and until then
    /// still in its stream.
    Kept,
}

impl Invariant {
    /// Every invariant.
    pub const ALL: [Self; 8] = [
        Self::Once,
        Self::Pinned,
        Self::Conserved,
        Self::Agreed,
        Self::Projected,
        Self::Settled,
        Self::Told,
        Self::Kept,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Pinned => "pinned",
            Self::Conserved => "conserved",
            Self::Agreed => "agreed",
            Self::Projected => "projected",
            Self::Settled => "settled",
            Self::Told => "told",
            Self::Kept => "kept",
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
            Self::Told => told,
            Self::Kept => kept,
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The invariants, for the checker.
pub(crate) fn all() -> Vec<Property<Protocol>> {
    let property = |it: Invariant| Property::always(it.name(), it.condition());
    Invariant::ALL.into_iter().map(property).collect()
}

fn applied(state: &State, record: RecordId) -> usize {
    let of = state.ledger.transactions.iter().filter(|row| row.record == record);
    of.filter(|row| matches!(row.outcome, Outcome::Applied { .. })).count()
}

fn once(protocol: &Protocol, state: &State) -> bool {
    protocol.scenario.records(None).all(|record| applied(state, record) <= 1)
}

const fn pinned(_: &Protocol, state: &State) -> bool {
    !state.changed
}

fn conserved(protocol: &Protocol, state: &State) -> bool {
    protocol.scenario.accounts().all(|account| {
        let mut sum = Balance::default();
        for row in &state.ledger.transactions {
            let movement = protocol.scenario.movement(row.record);
            let Some(movement) = movement.filter(|it| it.account == account) else { continue };
            let Outcome::Applied { balance_after, account_seq } = row.outcome else { continue };
            sum = Balance { amount: sum.amount + movement.amount, seq: sum.seq + 1 };
            if sum != (Balance { amount: balance_after, seq: account_seq }) || sum.amount < 0 {
                return false;
            }
        }
        state.ledger.balances.get(usize::from(account.0)) == Some(&sum)
    })
}

fn agreed(_: &Protocol, state: &State) -> bool {
    let stands = |record: &Record| match record {
        Record::Settled(told) => state.ledger.transactions.contains(told),
        Record::Unasked | Record::Pending { .. } => true,
    };
    let asked = |id| !matches!(state.record(id), Some(Record::Unasked) | None);
    state.records.iter().all(stands)
        && state.ledger.transactions.iter().all(|row| asked(row.record))
}

fn projected(protocol: &Protocol, state: &State) -> bool {
    let newest = |account: AccountId| {
        let records = protocol.scenario.records(Some(account));
        let told = records.filter_map(|record| match state.record(record) {
            Some(Record::Settled(told)) => Some(told.outcome),
            _ => None,
        });
        let balances = told.filter_map(|outcome| match outcome {
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
    !state.records.iter().any(is_pending)
        || [Order::First, Order::Last]
            .into_iter()
            .all(|order| !protocol.drain(state, true, order).records.iter().any(is_pending))
}

fn told(protocol: &Protocol, state: &State) -> bool {
    let lost = state.left.wipes < protocol.scenario.faults.wipes
        || state.results.stored.iter().any(|it| it.unheard);
    if lost || !state.records.iter().any(is_pending) {
        return true;
    }
    let is_sent = |record: RecordId| {
        let is_its = |body: &Body| matches!(body, Body::Command(id) if *id == record);
        state.ledger.find(record).is_some()
            || state.commands.stored.iter().any(|it| is_its(&it.place.message.body))
    };
    let drained = protocol.drain(state, false, Order::First);
    let given_up = |record: RecordId| {
        drained.dead_letters.iter().any(|place| match place.message.body {
            Body::Command(id) => id == record,
            Body::Result(told) => told.record == record,
            Body::Unreadable => false,
        })
    };
    protocol.scenario.records(None).all(|record| {
        !drained.record(record).is_some_and(|it| is_pending(&it))
            || !is_sent(record)
            || given_up(record)
    })
}

fn kept(protocol: &Protocol, state: &State) -> bool {
    let names = [StreamName::Commands, StreamName::Results];
    let is_stray = |name: StreamName| {
        move |place: &Place| place.stream == name && place.message.id == MessageId::None
    };
    if !state.strays.contains(&Stray::Sent) {
        return true;
    }
    let drained = protocol.drain(state, true, Order::First);
    names.into_iter().zip(&state.strays).all(|(name, stray)| {
        *stray != Stray::Sent
            || (drained.dead_letters.iter().any(is_stray(name))
                && (state.dead_letters.iter().any(is_stray(name))
                    || state.stream(name).stored.iter().any(|it| is_stray(name)(&it.place))))
    })
}
