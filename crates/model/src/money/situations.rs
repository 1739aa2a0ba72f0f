//! Situations to be reached by the scenarios. They guard against a model without
//! any activity, because it would keep every invariant.

use stateright::Property;

use crate::money::{
    databases::{Outcome, Record, Transaction},
    protocol::Protocol,
    replica::{Acknowledgement, Delivery, Phase},
    state::State,
    streams::{Body, MessageId, Publication, StreamName},
};

/// A name, and a condition to recognise the situation.
type Situation = (&'static str, fn(&Protocol, &State) -> bool);

/// Every situation.
pub const SITUATIONS: [Situation; 15] = [
    ("every record is settled", all_settled),
    ("a record settles after the broker lost data", settled_after_a_wipe),
    ("the command of a refused withdrawal returns after money arrived", refused_again),
    ("a duplicate is answered after a crash between commit and publish", answered_after_a_crash),
    ("the stream holds a command and its redrive", two_commands),
    ("two workers process the same command", processed_twice),
    ("a delayed publication arrives after it was published again", arrives_late),
    ("results arrive in the wrong order", results_out_of_order),
    ("a result arrives for a settled record", result_again),
    ("a worker's message was lost in a wipe, and another was delivered since", stale_delivery),
    ("a message at max_deliver is dead-lettered", exhausted),
    ("a message with a lost advisory is dead-lettered", found_by_the_sweep),
    ("a redrive's result settles a record after an advisory was lost", settled_by_a_redrive),
    ("an unreadable message is dead-lettered", |_, state| {
        stray_is_dead_lettered(state, StreamName::Commands)
    }),
    ("a contradicting result is dead-lettered", |_, state| {
        stray_is_dead_lettered(state, StreamName::Results)
    }),
];

/// The situations in the form of the checker.
pub(crate) fn properties() -> Vec<Property<Protocol>> {
    SITUATIONS.into_iter().map(|(name, condition)| Property::sometimes(name, condition)).collect()
}

fn is_settled(record: &Record) -> bool {
    matches!(record, Record::Settled(_))
}

fn all_settled(_: &Protocol, state: &State) -> bool {
    state.records.iter().all(is_settled)
}

fn settled_after_a_wipe(protocol: &Protocol, state: &State) -> bool {
    // The first command was lost: only a redrive can have settled the record.
    let wiped = state.remaining.wipes < protocol.scenario.faults.wipes;
    let redriven = |id: &MessageId| matches!(id, MessageId::Attempt(..));
    wiped
        && state.records.iter().any(is_settled)
        && state.results.remembered_ids.iter().all(redriven)
        && !state.results.remembered_ids.is_empty()
}

/// The results about to be published again.
fn repeated_results(state: &State) -> impl Iterator<Item = Transaction> {
    state.deliveries(StreamName::Commands).filter_map(|delivery| match delivery.phase {
        Phase::Publish { publication: Publication::Message(message), duplicate: true } => {
            match message.body {
                Body::Result(result) => Some(result),
                _ => None,
            }
        }
        _ => None,
    })
}

fn refused_again(protocol: &Protocol, state: &State) -> bool {
    repeated_results(state).any(|result| {
        let would_succeed = protocol.scenario.request(result.record).is_some_and(|request| {
            let balance = state.ledger.balances.get(usize::from(request.account.0));
            balance.is_some_and(|balance| balance.amount + request.amount >= 0)
        });
        result.outcome == Outcome::Refused && would_succeed
    })
}

fn answered_after_a_crash(protocol: &Protocol, state: &State) -> bool {
    let (remaining, allowed) = (&state.remaining, &protocol.scenario.faults);
    let no_other_fault = remaining.wipes == allowed.wipes
        && remaining.expired_windows == allowed.expired_windows
        && remaining.slow_workers == allowed.slow_workers
        && remaining.delayed_publications == allowed.delayed_publications;
    let unpublished =
        |result: Transaction| !state.results.remembered_ids.iter().any(|id| is_of(id, result));
    let only_one = state.deliveries(StreamName::Commands).count() == 1;
    no_other_fault
        && only_one
        && remaining.crashes < allowed.crashes
        && repeated_results(state).any(unpublished)
}

fn is_of(id: &MessageId, result: Transaction) -> bool {
    match id {
        MessageId::Record(record) | MessageId::Attempt(record, _) => *record == result.record,
        MessageId::None => false,
    }
}

fn two_commands(_: &Protocol, state: &State) -> bool {
    let ids = || state.commands.messages.iter().map(|message| message.id.message.id);
    ids().any(|first| match first {
        MessageId::Record(record) => {
            ids().any(|id| matches!(id, MessageId::Attempt(redriven, _) if redriven == record))
        }
        _ => false,
    })
}

fn processed_twice(_: &Protocol, state: &State) -> bool {
    let deliveries: Vec<&Delivery> = state.deliveries(StreamName::Commands).collect();
    matches!(deliveries.as_slice(), [one, other]
        if one.id == other.id && !one.stale && !other.stale)
}

fn arrives_late(_: &Protocol, state: &State) -> bool {
    state.in_flight.iter().any(|publication| match publication {
        Publication::Message(message) => {
            state.results.messages.iter().any(|stored| stored.id.message == *message)
        }
        Publication::DeadLetter(_) => false,
    })
}

fn results_out_of_order(_: &Protocol, state: &State) -> bool {
    state.deliveries(StreamName::Results).any(|delivery| {
        match (delivery.phase, delivery.id.message.body) {
            (Phase::Acknowledge { duplicate: false }, Body::Result(result)) => match result.outcome
            {
                Outcome::Applied { account_seq, .. } => {
                    state.projected.iter().any(|balance| balance.seq > account_seq)
                }
                Outcome::Refused => false,
            },
            _ => false,
        }
    })
}

fn result_again(_: &Protocol, state: &State) -> bool {
    let duplicate = Phase::Acknowledge { duplicate: true };
    state.deliveries(StreamName::Results).any(|delivery| delivery.phase == duplicate)
}

fn stale_delivery(_: &Protocol, state: &State) -> bool {
    state.records.iter().any(Record::is_pending)
        && state.deliveries(StreamName::Commands).any(|delivery| delivery.stale)
        && state.commands.messages.iter().any(|message| message.delivery_count > 0)
}

fn exhausted(_: &Protocol, state: &State) -> bool {
    state.deliveries(StreamName::Commands).any(|delivery| {
        delivery.acknowledgement == Acknowledgement::Delete
            && state.dead_letters.contains(&delivery.id)
    })
}

fn found_by_the_sweep(_: &Protocol, state: &State) -> bool {
    // Without the advisory, only the sweep can have found the message.
    state.deliveries(StreamName::Commands).any(|delivery| {
        delivery.acknowledgement == Acknowledgement::Delete
            && matches!(delivery.phase, Phase::Acknowledge { .. })
            && state.commands.get(&delivery.id).is_some_and(|message| message.advisory_lost)
    })
}

fn settled_by_a_redrive(_: &Protocol, state: &State) -> bool {
    let advisory_lost = |id| {
        let mut lost = state.results.messages.iter().filter(|message| message.advisory_lost);
        lost.any(|message| message.id.message.id == id)
    };
    state.deliveries(StreamName::Results).any(|delivery| {
        match (delivery.phase, delivery.id.message.id) {
            (Phase::Acknowledge { duplicate: false }, MessageId::Attempt(record, _)) => {
                advisory_lost(MessageId::Record(record))
            }
            _ => false,
        }
    })
}

fn stray_is_dead_lettered(state: &State, stream: StreamName) -> bool {
    let mut dead_letters = state.dead_letters.iter();
    dead_letters.any(|id| id.stream == stream && id.message.id == MessageId::None)
}
