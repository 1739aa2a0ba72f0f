//! Situations that have to come up in a scenario that claims to contain them:
//! a model in which nothing happens keeps every invariant.

use stateright::Property;

use crate::{
    broker::{Body, MessageId, Place, Publication, Stored, StreamName},
    drain::is_pending,
    protocol::Protocol,
    state::{End, Hand, Outcome, Phase, Record, State, Transaction},
};

/// A name, and how to recognise it.
type Situation = (&'static str, fn(&Protocol, &State) -> bool);

/// Every situation.
pub const SITUATIONS: [Situation; 15] = [
    ("everything is settled", everything_is_settled),
    ("a record is settled after the broker lost something", settled_after_a_wipe),
    ("a refused withdrawal's command comes again after the money arrived", refused_again),
    ("a duplicate is answered after a crash between commit and publish", answered_after_a_crash),
    ("a redrive's command is in the stream beside the first", two_commands),
    ("two workers hold the same command", held_twice),
    ("a publication arrives that was published again meanwhile", arrives_late),
    ("results come in the wrong order", results_out_of_order),
    ("a result finds its record settled", result_again),
    ("a worker's message was lost in a wipe and another one was delivered since", stale_hand),
    ("a message whose deliveries are used up is a dead letter", used_up),
    ("a message whose advisory was lost is a dead letter", unheard),
    ("a redrive's result settles a record whose first was given up unheard", settled_again),
    ("an unreadable message is a dead letter", |_, state| is_dead(state, StreamName::Commands)),
    ("a contradicting result is a dead letter", |_, state| is_dead(state, StreamName::Results)),
];

/// The situations, for the checker.
pub(crate) fn all() -> Vec<Property<Protocol>> {
    SITUATIONS.into_iter().map(|(name, is)| Property::sometimes(name, is)).collect()
}

fn is_settled(record: &Record) -> bool {
    matches!(record, Record::Settled(_))
}

fn everything_is_settled(_: &Protocol, state: &State) -> bool {
    state.records.iter().all(is_settled)
}

fn settled_after_a_wipe(protocol: &Protocol, state: &State) -> bool {
    // Its message was lost before: only a redrive's can have settled it.
    let wiped = state.left.wipes < protocol.scenario.faults.wipes;
    let redriven = |id: &MessageId| matches!(id, MessageId::Attempt(..));
    wiped
        && state.records.iter().any(is_settled)
        && state.results.remembered.iter().all(redriven)
        && !state.results.remembered.is_empty()
}

fn decided_before(state: &State) -> impl Iterator<Item = Transaction> {
    state.hands(StreamName::Commands).filter_map(|hand| match hand.phase {
        Phase::Publish { what: Publication::Message(message), again: true } => match message.body {
            Body::Result(told) => Some(told),
            _ => None,
        },
        _ => None,
    })
}

fn refused_again(protocol: &Protocol, state: &State) -> bool {
    decided_before(state).any(|told| {
        let movement = protocol.scenario.movement(told.record);
        let balance = movement.and_then(|it| state.ledger.balances.get(usize::from(it.account.0)));
        told.outcome == Outcome::Refused
            && movement.zip(balance).is_some_and(|(it, balance)| balance.amount + it.amount >= 0)
    })
}

fn answered_after_a_crash(protocol: &Protocol, state: &State) -> bool {
    let faults = &protocol.scenario.faults;
    let nothing_else = state.left.wipes == faults.wipes
        && state.left.windows == faults.windows
        && state.left.slow == faults.slow
        && state.left.held_up == faults.held_up;
    let untold = |told: Transaction| !state.results.remembered.iter().any(|id| is_of(id, told));
    let alone = state.hands(StreamName::Commands).count() == 1;
    nothing_else
        && alone
        && state.left.crashes < faults.crashes
        && decided_before(state).any(untold)
}

fn is_of(id: &MessageId, told: Transaction) -> bool {
    match id {
        MessageId::Record(record) | MessageId::Attempt(record, _) => *record == told.record,
        MessageId::None => false,
    }
}

fn two_commands(_: &Protocol, state: &State) -> bool {
    let ids = |stored: &Stored| stored.place.message.id;
    let is_first = |id: &MessageId| matches!(id, MessageId::Record(_));
    let all = || state.commands.stored.iter().map(ids);
    all().filter(is_first).any(|first| match first {
        MessageId::Record(record) => {
            all().any(|id| matches!(id, MessageId::Attempt(again, _) if again == record))
        }
        _ => false,
    })
}

fn held_twice(_: &Protocol, state: &State) -> bool {
    let hands: Vec<&Hand> = state.hands(StreamName::Commands).collect();
    matches!(hands.as_slice(), [one, other] if one.place == other.place && !one.stale && !other.stale)
}

fn arrives_late(_: &Protocol, state: &State) -> bool {
    state.in_flight.iter().any(|publication| match publication {
        Publication::Message(message) => {
            state.results.stored.iter().any(|it| it.place.message == *message)
        }
        Publication::DeadLetter(_) => false,
    })
}

fn results_out_of_order(_: &Protocol, state: &State) -> bool {
    state.hands(StreamName::Results).any(|hand| match (hand.phase, hand.place.message.body) {
        (Phase::LetGo { again: false }, Body::Result(told)) => match told.outcome {
            Outcome::Applied { account_seq, .. } => {
                state.projected.iter().any(|balance| balance.seq > account_seq)
            }
            Outcome::Refused => false,
        },
        _ => false,
    })
}

fn result_again(_: &Protocol, state: &State) -> bool {
    state.hands(StreamName::Results).any(|hand| hand.phase == Phase::LetGo { again: true })
}

fn stale_hand(_: &Protocol, state: &State) -> bool {
    let delivered = |stored: &Stored| stored.deliveries > 0;
    state.records.iter().any(is_pending)
        && state.hands(StreamName::Commands).any(|hand| hand.stale)
        && state.commands.stored.iter().any(delivered)
}

fn used_up(_: &Protocol, state: &State) -> bool {
    let deleting =
        |hand: &Hand| hand.end == End::Delete && state.dead_letters.contains(&hand.place);
    state.hands(StreamName::Commands).any(deleting)
}

fn unheard(_: &Protocol, state: &State) -> bool {
    // Nobody heard of it: only the sweep can have found it.
    let dead = |hand: &Hand| hand.end == End::Delete && matches!(hand.phase, Phase::LetGo { .. });
    let mut hands = state.hands(StreamName::Commands).filter(|hand| dead(hand));
    hands.any(|hand| state.commands.stored.iter().any(|it| it.unheard && it.place == hand.place))
}

fn settled_again(_: &Protocol, state: &State) -> bool {
    let unheard =
        |id| state.results.stored.iter().any(|it| it.unheard && it.place.message.id == id);
    state.hands(StreamName::Results).any(|hand| match (hand.phase, hand.place.message.id) {
        (Phase::LetGo { again: false }, MessageId::Attempt(record, _)) => {
            unheard(MessageId::Record(record))
        }
        _ => false,
    })
}

fn is_dead(state: &State, stream: StreamName) -> bool {
    let is = |place: &Place| place.stream == stream && place.message.id == MessageId::None;
    state.dead_letters.iter().any(is)
}
