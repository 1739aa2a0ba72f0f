//! What a round of attempts means for its endpoint. Pure.

use std::time::Duration;

use crate::{
    schedule::{self, FAILING},
    sender::Outcome,
    store::{Failed, Round},
};

/// An attempt that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Of the event.
    pub position: i64,
    /// Failed attempts before; `None` for a new event.
    pub earlier: Option<i32>,
    pub outcome: Outcome,
    pub took: Duration,
}

/// An attempt that takes longer is slow. Slow endpoints take no places from others.
pub const SLOW: Duration = Duration::from_secs(2);

/// The endpoint before the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    pub position: i64,
    /// Failed attempts in a row.
    pub failures: i32,
    /// Whether deliveries have rows: they wait for a retry, or were given up.
    pub has_rows: bool,
}

impl Before {
    /// Whether the endpoint gets one event at a time, as a probe.
    #[must_use]
    pub const fn is_failing(self) -> bool {
        self.failures >= FAILING
    }

    /// The round after these attempts, in the order of their ends. `through` is the cursor once
    /// all new events are taken or wait for a retry. `random` gives numbers between 0 and 1.
    #[must_use]
    pub fn after(
        self,
        attempts: Vec<Attempt>,
        through: i64,
        mut random: impl FnMut() -> f64,
    ) -> Round {
        let mut round = Round { position: through, failures: self.failures, ..Round::default() };
        let mut asked: Option<Duration> = None;
        for Attempt { position, earlier, outcome, took } in attempts {
            round.is_slow |= took > SLOW;
            let failure = match outcome {
                Outcome::Delivered => {
                    round.failures = 0;
                    round.has_delivered = true;
                    // A new event may have a row of an earlier attempt: the cursor was set back.
                    if earlier.is_some() || self.has_rows {
                        round.finished.push(position);
                    }
                    continue;
                }
                Outcome::Failed(failure) => failure,
            };
            round.failures = round.failures.saturating_add(1);
            if failure.is_overloaded {
                round.failures = round.failures.max(FAILING);
            }
            round.is_gone |= failure.is_gone;
            round.last_error = Some(failure.error.clone());
            asked = asked.max(failure.retry_after);
            if earlier.is_none() && self.is_failing() {
                // The probe stays the head of the queue, and needs no row.
                round.position = self.position;
                continue;
            }
            let attempts = earlier.unwrap_or(0).saturating_add(1);
            let next = schedule::after_attempts(attempts, failure.retry_after, random());
            round.failed.push(Failed {
                position,
                attempts,
                next_in: next.map(|next| next.as_secs_f64()),
                error: failure.error,
            });
        }
        if asked.is_some() {
            // Its receiver is left alone, whatever else was taken meanwhile.
            round.failures = round.failures.max(1);
        }
        if round.failures >= FAILING {
            // Only what fails while others are taken is given up.
            for failed in round.failed.iter_mut().filter(|failed| failed.next_in.is_none()) {
                failed.next_in = Some(schedule::during_outage(random()).as_secs_f64());
            }
        }
        round.has_recovered = self.is_failing() && round.has_delivered;
        if round.failures >= FAILING || asked.is_some() {
            let pause = schedule::pause_after(round.failures, asked, random());
            round.pause = Some(pause.as_secs_f64());
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Failure;

    fn attempt(position: i64, earlier: Option<i32>, outcome: Outcome) -> Attempt {
        Attempt { position, earlier, outcome, took: SLOW }
    }

    fn failed() -> Outcome {
        Outcome::Failed(Failure { error: "e".to_owned(), ..Failure::default() })
    }

    fn after(failures: i32, attempts: Vec<Attempt>, through: i64) -> Round {
        Before { position: 10, failures, has_rows: false }.after(attempts, through, || 0.5)
    }

    #[test]
    fn taken_events_move_the_cursor_and_need_no_row() {
        let round = after(2, vec![attempt(11, None, Outcome::Delivered)], 12);
        let expected = Round { position: 12, has_delivered: true, ..Round::default() };
        assert_eq!(round, expected);
    }

    #[test]
    fn a_failed_event_waits_in_a_row_and_others_go_on() {
        let attempts = vec![attempt(11, None, failed()), attempt(12, None, Outcome::Delivered)];
        let round = after(0, attempts, 12);
        assert_eq!((round.position, round.failures, round.pause), (12, 0, None));
        let row = Failed { position: 11, attempts: 1, next_in: Some(5.0), error: "e".to_owned() };
        assert_eq!(round.failed, [row]);
    }

    #[test]
    fn a_retry_goes_on_in_its_schedule_until_it_is_given_up() {
        let round = after(0, vec![attempt(5, Some(1), failed())], 10);
        assert_eq!(round.failed[0].next_in, Some(300.0));
        let round = after(0, vec![attempt(5, Some(9), failed())], 10);
        assert_eq!((round.failed[0].attempts, round.failed[0].next_in), (10, None));
        let round = after(0, vec![attempt(5, Some(1), Outcome::Delivered)], 10);
        assert_eq!(round.finished, [5]);
    }

    #[test]
    fn an_endpoint_that_takes_nothing_keeps_its_events() {
        for attempts in [9, 10, i32::MAX] {
            let round = after(FAILING - 1, vec![attempt(5, Some(attempts), failed())], 10);
            let next = (round.failed[0].attempts, round.failed[0].next_in);
            assert_eq!(next, (attempts.saturating_add(1), Some(86_400.0)));
        }
        let attempts = vec![attempt(5, Some(9), failed()), attempt(11, None, Outcome::Delivered)];
        assert_eq!(after(FAILING - 1, attempts, 11).failed[0].next_in, None);
    }

    #[test]
    fn an_event_that_is_taken_again_leaves_no_row_of_an_earlier_attempt() {
        let taken = vec![attempt(11, None, Outcome::Delivered)];
        let before = Before { position: 10, failures: 0, has_rows: true };
        assert_eq!(before.after(taken, 11, || 0.5).finished, [11]);
    }

    #[test]
    fn the_fifth_failure_pauses_the_endpoint() {
        let round = after(4, vec![attempt(11, None, failed())], 11);
        assert_eq!((round.failures, round.pause, round.position), (5, Some(5.0), 11));
        assert_eq!(round.failed.len(), 1);
    }

    #[test]
    fn a_failed_probe_stays_the_head_of_the_queue() {
        let round = after(6, vec![attempt(11, None, failed())], 11);
        assert_eq!((round.position, round.failures, round.pause), (10, 7, Some(20.0)));
        assert!(round.failed.is_empty() && !round.has_recovered);
        let round = after(6, vec![attempt(11, None, Outcome::Delivered)], 11);
        assert_eq!((round.position, round.failures, round.pause), (11, 0, None));
        assert!(round.has_recovered);
    }

    #[test]
    fn a_receiver_that_asks_for_a_pause_gets_it_though_it_took_something_since() {
        let failure = Failure { retry_after: Some(Duration::from_secs(90)), ..Failure::default() };
        let asks = attempt(11, None, Outcome::Failed(failure));
        let round = after(0, vec![asks, attempt(12, None, Outcome::Delivered)], 12);
        assert_eq!((round.failures, round.pause), (1, Some(90.0)));
    }

    #[test]
    fn an_attempt_of_more_than_two_seconds_is_slow() {
        let at_limit = attempt(11, None, Outcome::Delivered);
        let longer = Attempt { took: SLOW + Duration::from_millis(1), ..at_limit.clone() };
        assert!(!after(0, vec![at_limit.clone()], 11).is_slow);
        assert!(after(0, vec![longer, at_limit], 11).is_slow);
    }

    #[test]
    fn an_overloaded_receiver_pauses_at_once_and_410_disables() {
        let overloaded = Failure {
            is_overloaded: true,
            retry_after: Some(Duration::from_secs(90)),
            ..Failure::default()
        };
        let round = after(0, vec![attempt(11, None, Outcome::Failed(overloaded))], 11);
        assert_eq!((round.failures, round.pause), (FAILING, Some(90.0)));
        let gone = Failure { is_gone: true, ..Failure::default() };
        let round = after(0, vec![attempt(11, None, Outcome::Failed(gone))], 11);
        assert!(round.is_gone && round.failed.len() == 1);
    }
}
