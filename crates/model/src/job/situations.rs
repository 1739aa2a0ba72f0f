//! Situations to be reached by the scenarios. They guard against a model without any
//! activity, because it would keep every invariant.

use stateright::Property;

use super::{
    protocol::Protocol,
    replica::{Attempt, Phase},
    report::{Report, Status},
    state::State,
    stream::Body,
};

/// A name, and a condition to recognise the situation.
type Situation = (&'static str, fn(&Protocol, &State) -> bool);

/// Every situation.
pub const SITUATIONS: [Situation; 15] = [
    ("every report succeeds", |_, state| all(state, Status::Succeeded)),
    ("a report succeeds after the broker lost its message", succeeded_after_a_wipe),
    ("a report succeeds after a crash", succeeded_after_a_crash),
    ("a report succeeds although its message was held", succeeded_although_held),
    ("a report succeeds after a hand-over", succeeded_after_a_hand_over),
    ("a worker with a message waits while a report runs", waits),
    ("a frozen worker has files to commit, and another attempt runs", late_commit),
    ("a frozen worker has files to commit, and the report has ended", late_commit_after_the_end),
    ("the storage has the files of two attempts", files_of_two_attempts),
    ("a cancellation arrives between the files and the commit", cancelled_late),
    ("a cancelled report has files in the storage", cancelled_with_files),
    ("an attempt runs for another report than its message names", other_report),
    ("an alert is taken after a refusal", taken_after_a_refusal),
    ("a report fails while a younger one succeeds", failed_and_succeeded),
    ("a stray message is dead-lettered", |_, state| !state.dead_letters.is_empty()),
];

/// The situations in the form of the checker.
pub(crate) fn properties() -> Vec<Property<Protocol>> {
    SITUATIONS.into_iter().map(|(name, condition)| Property::sometimes(name, condition)).collect()
}

fn all(state: &State, status: Status) -> bool {
    state.reports.iter().all(|report| report.status == status)
}

fn succeeded_after_a_wipe(protocol: &Protocol, state: &State) -> bool {
    // Only a message of the redrive can have woken the worker.
    let redriven = |report: &Report| report.status == Status::Succeeded && report.sends > 0;
    state.remaining.wipes < protocol.scenario.faults.wipes
        && state.stream.remembered_ids.len() == 1
        && state.reports.iter().all(redriven)
}

fn succeeded_after_a_crash(_: &Protocol, state: &State) -> bool {
    let retried = |report: &Report| report.status == Status::Succeeded && report.failures > 0;
    state.reports.iter().any(retried)
}

fn succeeded_although_held(protocol: &Protocol, state: &State) -> bool {
    state.remaining.clock_jumps < protocol.scenario.faults.clock_jumps
        && state.stream.messages.is_empty()
        && succeeded_after_a_crash(protocol, state)
}

fn succeeded_after_a_hand_over(_: &Protocol, state: &State) -> bool {
    let handed_over = |report: &Report| {
        report.status == Status::Succeeded && report.handed_over > 0 && report.failures == 0
    };
    state.reports.iter().any(handed_over)
}

fn waits(_: &Protocol, state: &State) -> bool {
    let delivered = |phase| {
        let mut deliveries = state.replicas.iter().filter_map(|replica| replica.delivery);
        deliveries.any(|delivery| delivery.phase == phase)
    };
    state.attempts().next().is_some() && delivered(Phase::Delivered)
}

fn late_commits(state: &State) -> impl Iterator<Item = (Attempt, Report)> {
    let late = state.attempts().filter(|attempt| attempt.frozen && attempt.stored);
    late.filter_map(|attempt| Some((attempt, state.report(attempt.report)?)))
}

fn late_commit(_: &Protocol, state: &State) -> bool {
    late_commits(state)
        .any(|(attempt, row)| row.status == Status::Running && row.attempt > attempt.number)
}

fn late_commit_after_the_end(_: &Protocol, state: &State) -> bool {
    late_commits(state).any(|(_, row)| row.status == Status::Succeeded)
}

fn files_of_two_attempts(_: &Protocol, state: &State) -> bool {
    let (first, last) = (state.files.first(), state.files.last());
    first
        .zip(last)
        .is_some_and(|(first, last)| first.report == last.report && first.attempt != last.attempt)
}

fn cancelled_late(_: &Protocol, state: &State) -> bool {
    state.attempts().any(|attempt| {
        attempt.stored
            && state.report(attempt.report).is_some_and(|row| {
                row.cancel_requested && row.is_leased() && row.attempt == attempt.number
            })
    })
}

fn cancelled_with_files(_: &Protocol, state: &State) -> bool {
    state
        .files
        .iter()
        .any(|file| state.report(file.report).is_some_and(|row| row.status == Status::Cancelled))
}

fn other_report(_: &Protocol, state: &State) -> bool {
    let mut deliveries = state.replicas.iter().filter_map(|replica| replica.delivery);
    deliveries.any(|delivery| match (delivery.phase, delivery.id.message.body) {
        (Phase::Working(attempt), Body::Wake(named)) => attempt.report != named,
        _ => false,
    })
}

fn taken_after_a_refusal(_: &Protocol, state: &State) -> bool {
    state.reports.iter().any(|report| {
        report.alert.is_some_and(|alert| alert.taken && alert.refused && alert.dead_lettered)
    })
}

fn failed_and_succeeded(_: &Protocol, state: &State) -> bool {
    matches!(state.reports.as_slice(), [older, younger]
        if older.status == Status::Failed && younger.status == Status::Succeeded)
}
