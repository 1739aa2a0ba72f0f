//! What a round of attempts means for its endpoint. Pure.

use std::time::Duration;

use crate::{
    schedule::{self, FAILING, MOST_IN_OUTAGE},
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
    /// Whether the endpoint has taken another event since the last of them.
    pub others_taken: bool,
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

    /// Whether the next probe of a failing endpoint is a new event, rather than a due retry. They
    /// take turns: neither holds up the other one if the receiver always refuses it.
    #[must_use]
    pub const fn probes_new(self) -> bool {
        // Each failed probe is one more failure. The first probe is a new event.
        self.failures % 2 == FAILING % 2
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
        for Attempt { position, earlier, others_taken, outcome, took } in attempts {
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
            // A receiver that has taken others since refuses the event: the endpoint does not fail.
            if self.is_failing() || failure.is_gone || !others_taken {
                round.failures = round.failures.saturating_add(1);
                if failure.is_overloaded {
                    round.failures = round.failures.max(FAILING);
                }
            }
            round.is_gone |= failure.is_gone;
            round.last_error = Some(failure.error.clone());
            asked = asked.max(failure.retry_after);
            let attempts = earlier.unwrap_or(0).saturating_add(1);
            let next = schedule::after_attempts(attempts, failure.retry_after, random());
            round.failed.push(Failed {
                position,
                attempts,
                next_in: next.map(|next| next.as_secs_f64()),
                error: failure.error,
            });
        }
        if !self.is_failing() {
            // The requests of a round begin before the first one fails. However many of them fail,
            // the first pause is the shortest one.
            round.failures = round.failures.min(FAILING);
        }
        if asked.is_some() {
            // Its receiver is left alone, whatever else was taken meanwhile.
            round.failures = round.failures.max(1);
        }
        if round.failures >= FAILING {
            // Only what fails while others are taken is given up: the last attempts do not count now.
            // A recovery gives none back, or an event that makes its endpoint fail would be sent for
            // ever.
            let last = round.failed.iter_mut().filter(|failed| failed.attempts > MOST_IN_OUTAGE);
            for failed in last {
                failed.attempts = failed.attempts.saturating_sub(1);
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
        Attempt { position, earlier, others_taken: false, outcome, took: SLOW }
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
        // The attempts after the eighth do not count.
        for (failures, attempts) in [(FAILING - 1, 8), (FAILING - 1, 9), (FAILING, 9), (9, 10)] {
            let round = after(failures, vec![attempt(5, Some(attempts), failed())], 10);
            let next = (round.failed[0].attempts, round.failed[0].next_in);
            assert_eq!(next, (attempts, Some(86_400.0)));
        }
        let round = after(FAILING, vec![attempt(5, Some(7), failed())], 10);
        assert_eq!((round.failed[0].attempts, round.failed[0].next_in), (8, Some(72_000.0)));
        let attempts = vec![attempt(5, Some(9), failed()), attempt(11, None, Outcome::Delivered)];
        assert_eq!(after(FAILING - 1, attempts, 11).failed[0].next_in, None);
    }

    #[test]
    fn an_event_that_is_refused_while_others_are_taken_makes_no_endpoint_fail_and_is_given_up() {
        let overloaded = Failure { is_overloaded: true, ..Failure::default() };
        for outcome in [failed(), Outcome::Failed(overloaded)] {
            let refused = |position| Attempt {
                others_taken: true,
                ..attempt(position, Some(9), outcome.clone())
            };
            let round = after(0, (1..=8).map(refused).collect(), 10);
            assert_eq!((round.failures, round.pause), (0, None));
            assert!(round.failed.iter().all(|row| (row.attempts, row.next_in) == (10, None)));
            // A probe counts, or the pauses of an endpoint that takes nothing would not grow.
            let round = after(FAILING, vec![refused(1)], 10);
            assert_eq!((round.failures, round.failed[0].attempts), (FAILING + 1, 9));
        }
    }

    #[test]
    fn the_requests_of_one_round_begin_the_pauses_together() {
        let round = after(4, (11..=18).map(|at| attempt(at, None, failed())).collect(), 18);
        assert_eq!((round.failures, round.pause, round.failed.len()), (FAILING, Some(5.0), 8));
    }

    #[test]
    fn new_events_and_retries_take_turns_as_probes() {
        let probes_new = |failures| Before { position: 10, failures, has_rows: true }.probes_new();
        assert_eq!([5, 6, 7, 8].map(probes_new), [true, false, true, false]);
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
    fn a_failed_probe_waits_in_a_row_so_that_the_next_one_is_another_event() {
        let round = after(6, vec![attempt(11, None, failed())], 11);
        assert_eq!((round.position, round.failures, round.pause), (11, 7, Some(20.0)));
        assert!(round.failed.len() == 1 && !round.has_recovered);
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
