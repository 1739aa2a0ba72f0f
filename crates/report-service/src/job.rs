//! The states of a report, and its state after an attempt. Pure: no I/O, no clock.
//!
//! ```text
//! QUEUED ──claim──► RUNNING ──► SUCCEEDED
//!    ▲                 │ ├────► FAILED      the last failure, or a permanent one
//!    └── failed, lost ─┘ └────► CANCELLED
//!        or handed over
//! ```
//!
//! No report leaves SUCCEEDED, FAILED or CANCELLED.

use std::{fmt, time::Duration};

/// The state of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for its turn, or for its next attempt.
    Queued,
    /// An attempt has a lease.
    Running,
    /// The end: its files can be downloaded.
    Succeeded,
    /// The end: no attempt succeeded.
    Failed,
    /// The end: a client cancelled it.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The name on the wire and in columns.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the state never changes again.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The end of an attempt without files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It failed; another attempt can succeed.
    Failed(String),
    /// It failed; every other attempt would fail, too, until an operator has repaired something.
    FailedForGood(String),
    /// The request can't be fulfilled. The client may read why, so no operator is needed.
    Impossible(String),
    /// Its lease ended: the worker crashed or was cut off.
    Lost,
    /// Its worker stops, and leaves the report to another one.
    HandedOver,
    /// A client cancelled the report.
    Cancelled,
}

impl Outcome {
    /// The name on the wire and in columns.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Failed(_) | Self::FailedForGood(_) | Self::Impossible(_) => "FAILED",
            Self::Lost => "LOST",
            Self::HandedOver => "HANDED_OVER",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The cause, for the operator.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Failed(error) | Self::FailedForGood(error) | Self::Impossible(error) => {
                Some(error)
            }
            Self::Lost => Some("the worker crashed, or lost its lease"),
            Self::HandedOver | Self::Cancelled => None,
        }
    }

    /// The cause, for the client: only if it is in the request.
    #[must_use]
    pub fn public_error(&self) -> Option<&str> {
        match self {
            Self::Impossible(error) => Some(error),
            _ => None,
        }
    }
}

/// How often a report is tried, and when.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    /// Failed or lost attempts until the report is FAILED.
    pub max_failures: i32,
    /// The delay after the first failure. It doubles with each further one.
    pub delay: Duration,
}

/// The longest delay between two attempts.
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(10 * 60);

/// A report after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// The new state.
    pub state: State,
    /// The new number of failures.
    pub failures: i32,
    /// The delay until the next attempt.
    pub delay: Duration,
    /// Whether an operator must be told.
    pub alert: bool,
}

/// The state after an attempt without files. A requested cancellation precedes
/// another attempt.
#[must_use]
pub fn after(outcome: &Outcome, failures: i32, cancel_requested: bool, tries: Tries) -> Next {
    let next = |state| Next { state, failures, delay: Duration::ZERO, alert: false };
    match outcome {
        Outcome::Cancelled => next(State::Cancelled),
        _ if cancel_requested => next(State::Cancelled),
        Outcome::HandedOver => next(State::Queued),
        Outcome::FailedForGood(_) | Outcome::Impossible(_) => {
            let failures = failures.saturating_add(1);
            // After other failures, also a request that can't be fulfilled needs an operator.
            let is_last = failures >= tries.max_failures;
            let alert = is_last || matches!(outcome, Outcome::FailedForGood(_));
            Next { failures, alert, ..next(State::Failed) }
        }
        Outcome::Failed(_) | Outcome::Lost => {
            let failures = failures.saturating_add(1);
            if failures >= tries.max_failures {
                Next { failures, alert: true, ..next(State::Failed) }
            } else {
                Next { failures, delay: delay(failures, tries.delay), ..next(State::Queued) }
            }
        }
    }
}

fn delay(failures: i32, first: Duration) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or_default().min(20);
    first.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIES: Tries = Tries { max_failures: 5, delay: Duration::from_secs(5) };

    #[test]
    fn the_fifth_failure_is_the_last_and_alerts() {
        let mut failures = 0;
        let mut delays = Vec::new();
        for _ in 0..4 {
            let next = after(&Outcome::Lost, failures, false, TRIES);
            assert_eq!((next.state, next.alert), (State::Queued, false));
            failures = next.failures;
            delays.push(next.delay.as_secs());
        }
        assert_eq!(delays, [5, 10, 20, 40]);
        let last = after(&Outcome::Failed("full".into()), failures, false, TRIES);
        assert_eq!((last.state, last.failures, last.alert), (State::Failed, 5, true));
    }

    #[test]
    fn a_hand_over_is_no_failure() {
        let next = after(&Outcome::HandedOver, 4, false, TRIES);
        let expected =
            Next { state: State::Queued, failures: 4, delay: Duration::ZERO, alert: false };
        assert_eq!(next, expected);
    }

    #[test]
    fn a_requested_cancellation_precedes_another_attempt() {
        for outcome in [
            Outcome::Cancelled,
            Outcome::HandedOver,
            Outcome::Lost,
            Outcome::Failed(String::new()),
            Outcome::FailedForGood(String::new()),
            Outcome::Impossible(String::new()),
        ] {
            let next = after(&outcome, 4, true, TRIES);
            assert_eq!((next.state, next.alert), (State::Cancelled, false), "{outcome:?}");
        }
    }

    #[test]
    fn a_permanent_failure_ends_at_once_and_alerts_unless_the_request_is_its_cause() {
        for (outcome, failures, alert) in [
            (Outcome::FailedForGood("a contradiction".into()), 0, true),
            (Outcome::Impossible("too long".into()), 0, false),
            (Outcome::Impossible("too long".into()), 4, true),
        ] {
            let next = after(&outcome, failures, false, TRIES);
            let expected = (State::Failed, failures + 1, alert);
            assert_eq!((next.state, next.failures, next.alert), expected, "{outcome:?}");
        }
    }

    #[test]
    fn the_delay_has_a_bound() {
        assert_eq!(delay(1, Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(delay(i32::MAX, Duration::from_secs(5)), LONGEST_DELAY);
    }
}
