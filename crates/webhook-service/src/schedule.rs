//! When failed deliveries are tried again. Pure.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Delays between the attempts of one delivery, in seconds: the schedule of the standard-webhooks
/// specification. The last attempt is 75 hours and 35 minutes after the first.
const DELAYS: [u64; 9] =
    [5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];

/// From this number of failures in a row on, an endpoint gets one event now and then, as a probe.
pub const FAILING: i32 = 5;

const FIRST_PROBE: Duration = Duration::from_secs(5);
const LONGEST_PROBE: Duration = Duration::from_secs(5 * MINUTE);
/// The longest wait that a receiver can ask for with `Retry-After`.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * HOUR);

/// No delay or pause is longer: the last delay of a delivery, a tenth longer.
pub const LONGEST: Duration = Duration::from_secs(24 * HOUR + 24 * HOUR / 10);

/// While an endpoint takes nothing, the attempts of a delivery count up to this number: two are
/// left for afterwards.
pub const MOST_IN_OUTAGE: i32 = 8;

/// The delay after this many failed attempts of a delivery; `None` once it is given up. `random`
/// is between 0 and 1: the delay varies by 10 %.
#[must_use]
pub fn after_attempts(
    attempts: i32,
    retry_after: Option<Duration>,
    random: f64,
) -> Option<Duration> {
    let index = usize::try_from(attempts).ok()?.checked_sub(1)?;
    let delay = Duration::from_secs(*DELAYS.get(index)?);
    Some(at_least(vary(delay, random), retry_after))
}

/// The delay instead of giving up, while the endpoint takes nothing.
#[must_use]
pub fn during_outage(random: f64) -> Duration {
    vary(Duration::from_secs(24 * HOUR), random)
}

/// The pause of an endpoint after this many failures in a row, before new events are tried.
#[must_use]
pub fn pause_after(failures: i32, retry_after: Option<Duration>, random: f64) -> Duration {
    let Some(over) = failures.checked_sub(FAILING).and_then(|over| u32::try_from(over).ok()) else {
        return retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    };
    let pause = FIRST_PROBE.saturating_mul(2_u32.saturating_pow(over)).min(LONGEST_PROBE);
    at_least(vary(pause, random), retry_after)
}

fn vary(delay: Duration, random: f64) -> Duration {
    delay.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
}

fn at_least(delay: Duration, asked: Option<Duration>) -> Duration {
    delay.max(asked.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(delay: Option<Duration>) -> Option<u64> {
        delay.map(|delay| delay.as_secs())
    }

    #[test]
    fn a_delivery_has_ten_attempts_in_three_days() {
        let delays: Vec<_> =
            (1..=9).filter_map(|attempts| after_attempts(attempts, None, 0.5)).collect();
        assert_eq!(delays.len(), 9);
        let last: Duration = delays.iter().sum();
        assert_eq!(last.as_secs(), 75 * HOUR + 35 * MINUTE + 5);
        assert_eq!(after_attempts(9, None, 1.0), Some(LONGEST));
        assert_eq!(during_outage(1.0), LONGEST);
        assert!(after_attempts(MOST_IN_OUTAGE + 1, None, 0.5).is_some());
        for none in [0, -1, 10, 11, i32::MAX] {
            assert_eq!(after_attempts(none, None, 0.5), None);
        }
    }

    #[test]
    fn delays_vary_by_a_tenth() {
        assert_eq!(seconds(after_attempts(2, None, 0.0)), Some(270));
        assert_eq!(seconds(after_attempts(2, None, 1.0)), Some(330));
    }

    #[test]
    fn a_receiver_can_ask_for_a_longer_wait_up_to_a_day() {
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(seconds(after_attempts(1, asked(60), 0.5)), Some(60));
        assert_eq!(seconds(after_attempts(2, asked(60), 0.5)), Some(300));
        assert_eq!(seconds(after_attempts(1, asked(u64::MAX), 0.5)), Some(24 * HOUR));
        assert_eq!(pause_after(1, asked(60), 0.5).as_secs(), 60);
    }

    #[test]
    fn a_failing_endpoint_is_probed_every_five_minutes() {
        assert_eq!(pause_after(FAILING - 1, None, 0.5), Duration::ZERO);
        let pauses: Vec<_> =
            (FAILING..FAILING + 8).map(|f| pause_after(f, None, 0.5).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(pause_after(i32::MAX, None, 0.5).as_secs(), 300);
    }
}
