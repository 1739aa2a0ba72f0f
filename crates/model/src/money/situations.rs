//! Situations to be reached by the scenarios. They guard against a model without
//! any activity, because it would keep every invariant.

use stateright::Property;

use crate::money::{
    databases::{Outcome, Record, Transaction},
    protocol::Protocol,
    replica::{Acknowledgement, Delivery, Phase},
    state::State,
    streams::{Body, DeadLetter, MessageId, Publication, StoredMessage, StreamName},
};

/// A name, and a condition to recognise the situation.
type Situation = (&'static str, fn(&Protocol, &State) -> bool);

/// Every situation.
pub const SITUATIONS: [Situation; 23] = [
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
    ("a message returns with one of its commands decided, and one not", half_committed),
    ("a message returns with one of its results settled, and one not", half_settled),
    ("a result is stored in two messages with different neighbours", other_composition),
    ("a command settles after its neighbour was dead-lettered", neighbour_goes_on),
    ("each command of a bundle at max_deliver is dead-lettered", bundle_at_max_deliver),
    ("a message with several commands is settled though the broker refuses such ones", taken_apart),
    ("a record settles after a result was discarded", settled_after_a_discard),
    ("a command settles on its own, while its poison neighbour is PENDING", settled_alone),
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
    let redriven = |id| matches!(id, MessageId::Attempt(..));
    wiped
        && state.records.iter().any(is_settled)
        && state.results.remembered_ids.iter().all(|digest| digest.0.all(redriven))
        && !state.results.remembered_ids.is_empty()
}

/// The results of a message with several commands were stored after the limit was lowered.
fn taken_apart(_: &Protocol, state: &State) -> bool {
    let is_done = |delivery: &Delivery| delivery.id.message.is_bundle() && delivery.is_done();
    let alone = || state.results.remembered_ids.iter().all(|digest| digest.0.len() == 1);
    state.refuses_bundles && alone() && state.deliveries(StreamName::Commands).any(is_done)
}

fn settled_after_a_discard(protocol: &Protocol, state: &State) -> bool {
    state.remaining.discards == 0
        && protocol.scenario.faults.discards > 0
        && all_settled(protocol, state)
}

/// The results about to be published again.
fn repeated_results(state: &State) -> impl Iterator<Item = Transaction> {
    let parts = state.deliveries(StreamName::Commands).flat_map(Delivery::parts);
    parts.filter_map(|(_, phase)| match phase {
        Phase::PublishResult { result, duplicate: true } => match result.body {
            Body::Result(result) => Some(result),
            _ => None,
        },
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
    let unpublished = |result: Transaction| !remembered_results(state).any(|id| is_of(id, result));
    let only_one = state.deliveries(StreamName::Commands).count() == 1;
    no_other_fault
        && only_one
        && remaining.crashes < allowed.crashes
        && repeated_results(state).any(unpublished)
}

/// The ids of the results in the duplicate window.
fn remembered_results(state: &State) -> impl Iterator<Item = MessageId> {
    state.results.remembered_ids.iter().flat_map(|digest| digest.0.iter())
}

fn is_of(id: MessageId, result: Transaction) -> bool {
    match id {
        MessageId::Record(record) | MessageId::Attempt(record, _) => record == result.record,
        MessageId::None => false,
    }
}

fn two_commands(_: &Protocol, state: &State) -> bool {
    let parts = || state.commands.messages.iter().flat_map(|message| message.parts());
    let ids = || parts().map(|part| part.id);
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
    let mut parts = state.deliveries(StreamName::Results).flat_map(Delivery::parts);
    parts.any(|(part, phase)| match (phase, part.body) {
        (Phase::Done { duplicate: false }, Body::Result(result)) => match result.outcome {
            Outcome::Applied { account_seq, .. } => {
                state.projected.iter().any(|balance| balance.seq > account_seq)
            }
            Outcome::Refused => false,
        },
        _ => false,
    })
}

fn result_again(_: &Protocol, state: &State) -> bool {
    let duplicate = |phase| phase == Phase::Done { duplicate: true };
    state.deliveries(StreamName::Results).any(|delivery| delivery.phases.any(duplicate))
}

fn stale_delivery(_: &Protocol, state: &State) -> bool {
    state.records.iter().any(Record::is_pending)
        && state.deliveries(StreamName::Commands).any(|delivery| delivery.stale)
        && state.commands.messages.iter().any(|message| message.delivery_count > 0)
}

/// Whether each part of the message is dead-lettered.
fn is_dead_lettered(state: &State, delivery: &Delivery) -> bool {
    let message = delivery.id;
    message.message.parts.all(|part| state.dead_letters.contains(&DeadLetter { message, part }))
}

fn exhausted(_: &Protocol, state: &State) -> bool {
    state.deliveries(StreamName::Commands).any(|delivery| {
        delivery.acknowledgement == Acknowledgement::Delete && is_dead_lettered(state, delivery)
    })
}

fn found_by_the_sweep(_: &Protocol, state: &State) -> bool {
    // Without the advisory, only the sweep can have found the message.
    state.deliveries(StreamName::Commands).any(|delivery| {
        delivery.acknowledgement == Acknowledgement::Delete
            && delivery.is_done()
            && state.commands.get(&delivery.id).is_some_and(|message| message.advisory_lost)
    })
}

fn settled_by_a_redrive(_: &Protocol, state: &State) -> bool {
    let advisory_lost = |id| {
        let mut lost = state.results.messages.iter().filter(|message| message.advisory_lost);
        lost.any(|message| message.parts().any(|part| part.id == id))
    };
    let mut parts = state.deliveries(StreamName::Results).flat_map(Delivery::parts);
    parts.any(|(part, phase)| match (phase, part.id) {
        (Phase::Done { duplicate: false }, MessageId::Attempt(record, _)) => {
            advisory_lost(MessageId::Record(record))
        }
        _ => false,
    })
}

fn stray_is_dead_lettered(state: &State, stream: StreamName) -> bool {
    let mut dead_letters = state.dead_letters.iter();
    dead_letters.any(|letter| letter.message.stream == stream && letter.part.id == MessageId::None)
}

fn half_committed(_: &Protocol, state: &State) -> bool {
    let waits =
        |message: &&StoredMessage| message.delivery_count > 0 && !state.is_in_progress(&message.id);
    let decided = |body| match body {
        Body::Command(record) => state.ledger.find(record).is_some(),
        Body::Result(_) | Body::Unreadable => false,
    };
    state.commands.messages.iter().filter(waits).any(|message| {
        message.parts().any(|part| decided(part.body))
            && message.parts().any(|part| !decided(part.body))
    })
}

fn half_settled(_: &Protocol, state: &State) -> bool {
    let waits =
        |message: &&StoredMessage| message.delivery_count > 0 && !state.is_in_progress(&message.id);
    let settled = |body| match body {
        Body::Result(result) => state.record(result.record) == Some(Record::Settled(result)),
        Body::Command(_) | Body::Unreadable => false,
    };
    state.results.messages.iter().filter(waits).any(|message| {
        message.parts().any(|part| settled(part.body))
            && message.parts().any(|part| !settled(part.body))
    })
}

fn other_composition(_: &Protocol, state: &State) -> bool {
    let headers = &state.results.remembered_ids;
    headers.iter().any(|one| {
        headers.iter().any(|other| one != other && one.0.any(|id| other.0.any(|same| same == id)))
    })
}

fn neighbour_goes_on(_: &Protocol, state: &State) -> bool {
    state.dead_letters.iter().any(|letter| {
        letter.message.message.parts.any(|part| match part.body {
            Body::Command(record) => {
                part != letter.part && state.record(record).as_ref().is_some_and(is_settled)
            }
            Body::Result(_) | Body::Unreadable => false,
        })
    })
}

fn bundle_at_max_deliver(_: &Protocol, state: &State) -> bool {
    state.deliveries(StreamName::Commands).any(|delivery| {
        delivery.acknowledgement == Acknowledgement::Delete
            && delivery.id.message.is_bundle()
            && is_dead_lettered(state, delivery)
    })
}

fn settled_alone(protocol: &Protocol, state: &State) -> bool {
    let poison_waits = protocol.scenario.records(None).any(|record| {
        protocol.scenario.poison(record).is_some()
            && state.record(record).is_some_and(|row| row.is_pending())
    });
    let alone = |id| matches!(id, MessageId::Attempt(_, attempt) if attempt > 1);
    let mut parts = state.deliveries(StreamName::Results).flat_map(Delivery::parts);
    poison_waits
        && parts.any(|(part, phase)| phase == Phase::Done { duplicate: false } && alone(part.id))
}
