//! Compares this process's clock with that of its database. Nothing depends on their
//! agreement, but wrong times in records and logs, and slower work, are worth an alert.

use std::{
    future::Future,
    time::{Duration, Instant, SystemTime},
};

use metrics::{Unit, describe_gauge};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{
    health::Health,
    postgres::{CALL_LIMIT, PgPool},
    tasks::sleep_unless_stopped,
};

/// The condition's name.
pub(crate) const CONDITION: &str = "clock";
/// The interval between two comparisons.
const EVERY: Duration = Duration::from_secs(5);
/// The maximum difference, beyond what the round trip explains. The redrive's window reaches
/// back three seconds by default.
const LIMIT: f64 = 2.0;

/// Describes the metric.
pub(crate) fn describe() {
    describe_gauge!(
        "passbook_clock_skew_seconds",
        Unit::Seconds,
        "How far the database's clock is ahead of this process's, as last compared; negative if it is behind."
    );
}

/// Sets the condition and the metric until `stop`. Without an answer, both keep their last
/// values: the condition `postgres` is down then.
pub(crate) async fn watch(health: Health, pool: PgPool, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let now = sqlx::query_scalar::<_, OffsetDateTime>("SELECT clock_timestamp()");
        if let Some(difference) = compare(now.fetch_one(&pool)).await {
            metrics::gauge!("passbook_clock_skew_seconds").set(difference.seconds);
            health.set(CONDITION, difference.finding());
        }
        sleep_unless_stopped(EVERY, &stop).await;
    }
}

/// The difference between two clocks.
#[derive(Debug, Clone, Copy)]
struct Difference {
    /// Positive if the other clock is ahead.
    seconds: f64,
    /// Half of the round trip.
    uncertainty: f64,
}

impl Difference {
    fn finding(self) -> Option<String> {
        let Self { seconds, uncertainty } = self;
        let direction = if seconds > 0.0 { "ahead of" } else { "behind" };
        (seconds.abs() - uncertainty > LIMIT).then(|| {
            let seconds = seconds.abs();
            format!("the database's clock is {seconds:.1} s {direction} this process's")
        })
    }
}

/// Asks the other clock. `None` without an answer, or if this process's clock jumped
/// meanwhile.
async fn compare(other: impl Future<Output = sqlx::Result<OffsetDateTime>>) -> Option<Difference> {
    let (begun, monotonic) = (SystemTime::now(), Instant::now());
    let other = tokio::time::timeout(CALL_LIMIT, other).await.ok()?.ok()?;
    let uncertainty = monotonic.elapsed().as_secs_f64() / 2.0;
    let middle = OffsetDateTime::from(begun) + Duration::from_secs_f64(uncertainty);
    let jumped = (OffsetDateTime::now_utc() - middle).as_seconds_f64() - uncertainty;
    (jumped.abs() < 1.0)
        .then(|| Difference { seconds: (other - middle).as_seconds_f64(), uncertainty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_the_round_trip_explains_is_no_finding() {
        let finding = |seconds, uncertainty| Difference { seconds, uncertainty }.finding();
        assert_eq!(finding(1.9, 0.0), None);
        assert_eq!(finding(-4.0, 2.5), None);
        let ahead = finding(86_400.0, 0.01).unwrap();
        assert_eq!(ahead, "the database's clock is 86400.0 s ahead of this process's");
        assert!(finding(-2.1, 0.0).unwrap().contains("behind"));
    }
}
