//! The invariants of the reports, as conditions on a state. Each must hold in every
//! state.

use stateright::Property;

use super::{
    drain::Schedule,
    protocol::Protocol,
    report::{Report, ReportId, Status},
    state::{State, Stray},
    stream::Body,
};
use crate::named::display_name;

/// A condition that must always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// At most one attempt runs, not counting workers that were frozen until their
    /// lease was over.
    OneAtATime,
    /// No report leaves an end state, or changes its files there.
    Final,
    /// Every accepted report ends.
    Settled,
    /// A report fails after the maximum of failed, lost or crashed attempts, neither
    /// before nor later. A hand-over is none of them.
    Five,
    /// A report that failed for good has a dead letter and a taken alert in the end.
    Alerted,
    /// A SUCCEEDED report has the files of its own attempt, and no other report has
    /// files.
    OneSet,
    /// In the end the storage has the files of SUCCEEDED reports only.
    Clean,
    /// A report does not succeed or fail after the answer to its cancellation.
    Cancelled,
    /// Reports are claimed in the order of asking.
    Order,
    /// No due report waits for the delay of another one.
    NotHeldUp,
    /// A stray message becomes a dead letter in the end, and stays in its stream until
    /// then.
    NothingDropped,
    /// No message of the service itself becomes a dead letter.
    NoFalseAlarm,
}

impl Invariant {
    /// Every invariant.
    pub const ALL: [Self; 12] = [
        Self::OneAtATime,
        Self::Final,
        Self::Settled,
        Self::Five,
        Self::Alerted,
        Self::OneSet,
        Self::Clean,
        Self::Cancelled,
        Self::Order,
        Self::NotHeldUp,
        Self::NothingDropped,
        Self::NoFalseAlarm,
    ];

    /// The name in the output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneAtATime => "one-at-a-time",
            Self::Final => "final",
            Self::Settled => "settled",
            Self::Five => "five",
            Self::Alerted => "alerted",
            Self::OneSet => "one-set",
            Self::Clean => "clean",
            Self::Cancelled => "cancelled",
            Self::Order => "order",
            Self::NotHeldUp => "not-held-up",
            Self::NothingDropped => "nothing-dropped",
            Self::NoFalseAlarm => "no-false-alarm",
        }
    }

    const fn condition(self) -> fn(&Protocol, &State) -> bool {
        match self {
            Self::OneAtATime => one_at_a_time,
            Self::Final => |_, state| !state.end_changed,
            Self::Settled => settled,
            Self::Five => five,
            Self::Alerted => alerted,
            Self::OneSet => one_set,
            Self::Clean => clean,
            Self::Cancelled => cancelled,
            Self::Order => |_, state| !state.order_broken,
            Self::NotHeldUp => not_held_up,
            Self::NothingDropped => nothing_dropped,
            Self::NoFalseAlarm => no_false_alarm,
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

fn one_at_a_time(_: &Protocol, state: &State) -> bool {
    state.attempts().filter(|attempt| !attempt.frozen).count() <= 1
}

fn settled(protocol: &Protocol, state: &State) -> bool {
    !state.has_open_reports()
        || [Schedule::First, Schedule::Last]
            .into_iter()
            .all(|schedule| !protocol.drain(state, true, schedule).has_open_reports())
}

fn five(protocol: &Protocol, state: &State) -> bool {
    let max = protocol.scenario.max_failures;
    state.reports.iter().all(|report| {
        // Every ended attempt is a failure, a hand-over, or the last.
        let tried = report.attempt.saturating_sub(report.handed_over);
        tried <= max && (report.status != Status::Failed || tried == max)
    })
}

fn alerted(protocol: &Protocol, state: &State) -> bool {
    let complete = |report: &Report| {
        report.status != Status::Failed
            || report.alert.is_some_and(|alert| alert.dead_lettered && alert.taken)
    };
    state.reports.iter().all(complete)
        || protocol.drain(state, true, Schedule::First).reports.iter().all(complete)
}

fn one_set(_: &Protocol, state: &State) -> bool {
    (0..).map(ReportId).zip(&state.reports).all(|(id, report)| match report.registered {
        None => report.status != Status::Succeeded,
        Some(attempt) => {
            report.status == Status::Succeeded
                && state.files.iter().any(|file| {
                    file.report == id
                        && file.written_by == attempt
                        && file.attempt.is_none_or(|number| number == attempt)
                })
        }
    })
}

fn clean(protocol: &Protocol, state: &State) -> bool {
    if state.files.is_empty() {
        return true;
    }
    let drained = protocol.drain(state, true, Schedule::First);
    drained.files.iter().all(|file| {
        let registered = drained.report(file.report).and_then(|report| report.registered);
        registered.is_some_and(|attempt| file.attempt.is_none_or(|number| number == attempt))
    })
}

fn cancelled(_: &Protocol, state: &State) -> bool {
    state.reports.iter().all(|report| {
        !report.cancel_requested || !matches!(report.status, Status::Succeeded | Status::Failed)
    })
}

fn not_held_up(protocol: &Protocol, state: &State) -> bool {
    // Only a report with a delay could hold up another one.
    let delayed = |report: &Report| report.status == Status::Queued && !report.due;
    !state.reports.iter().any(delayed)
        || !protocol.drain(state, false, Schedule::First).reports.iter().any(Report::is_due)
}

fn nothing_dropped(protocol: &Protocol, state: &State) -> bool {
    if state.stray != Stray::Sent {
        return true;
    }
    let dead_lettered =
        |state: &State| state.dead_letters.iter().any(|id| id.message.body == Body::Stray);
    let messages = &state.stream.messages;
    let stored = || messages.iter().any(|message| message.id.message.body == Body::Stray);
    (dead_lettered(state) || stored())
        && dead_lettered(&protocol.drain(state, true, Schedule::First))
}

fn no_false_alarm(_: &Protocol, state: &State) -> bool {
    state.dead_letters.iter().all(|id| id.message.body == Body::Stray)
}
