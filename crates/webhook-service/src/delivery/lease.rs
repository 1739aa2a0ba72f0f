//! The time of a lease: how long a turn uses it, and how it ends after an error of the database.
//!
//! A lease ends a minute after its claim or the last settlement, by the database's clock. The
//! requests of the turn are over before, so another replica can claim the endpoint then. Reads of a
//! slow database are no part of the turn's ten seconds, or no attempt would ever begin.

use std::time::Duration;

use runtime::{
    postgres::{CALL_LIMIT, CallError, NoAnswer, limited},
    tasks::sleep_unless_stopped,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Deliveries, places::Place};
use crate::{
    config::LONGEST_ATTEMPT,
    store::{self, ClaimedEndpoint, StoreError},
};

/// How long a lease lasts: `store::claim` and `store::settle`.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// The first reads of a turn end within this time after the claim was sent.
pub(super) const READ: Duration = Duration::from_secs(20);
/// How long attempts begin after the first reads. Then other endpoints get the place.
const TURN: Duration = Duration::from_secs(10);
/// No attempt begins later after the claim was sent. The longest attempt and its settlement then
/// end before the lease.
const LATEST: Duration = LEASE.saturating_sub(LONGEST_ATTEMPT).saturating_sub(CALL_LIMIT);
/// What is left of a lease after an error of the database.
const AFTER_ERROR: Duration = Duration::from_secs(5);
/// Pauses before a call is repeated. Each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The first reads of a turn took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the first reads of a turn took longer than {READ:?}")]
pub(super) struct SlowReads;

/// When the last attempt of a turn begins, by the times of the claim and of the end of its reads.
pub(super) fn turn_end(claimed: Instant, read: Instant) -> Instant {
    (read + TURN).min(claimed + LATEST)
}

/// Repeats a call to the database after an error that may pass, until the stop, and as long as a
/// further call is over before `end`.
pub(super) async fn repeat<T, F>(
    mut call: impl FnMut() -> F,
    end: Instant,
    stop: &CancellationToken,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let has_time = Instant::now() + pause + CALL_LIMIT < end;
        let repeats = error.is_transient() && has_time;
        if !repeats || !sleep_unless_stopped(pause, stop).await {
            return Err(error);
        }
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Whether the database was the reason of an error that may pass. After any other error, such as a
/// secret that does not open, the lease is the pause.
fn may_pass(error: &anyhow::Error) -> bool {
    error.downcast_ref::<StoreError>().is_some_and(CallError::is_transient)
        || error.is::<NoAnswer>()
        || error.is::<SlowReads>()
}

impl Deliveries {
    /// Serves an endpoint that was claimed. `claimed` is when the claim was sent. If the database
    /// failed meanwhile, the lease ends soon.
    pub(super) async fn take_turn(
        &self,
        endpoint: ClaimedEndpoint,
        claimed: Instant,
        place: &Place,
        stop: &CancellationToken,
    ) {
        let Err(error) = self.serve(&endpoint, claimed, place, stop).await else { return };
        let ends_soon = may_pass(&error);
        let error = format!("{error:#}");
        tracing::warn!(webhook_endpoint = %endpoint.id, error, "deliveries failed");
        if ends_soon {
            place.during(self.shorten_lease(&endpoint, stop)).await;
        }
    }

    /// Shortens the lease once the database answers, if it is still this one. The longest it can
    /// last is a minute from now.
    async fn shorten_lease(&self, endpoint: &ClaimedEndpoint, stop: &CancellationToken) {
        let rest = AFTER_ERROR.as_secs_f64();
        let shorten = || async {
            let ClaimedEndpoint { id, fence, .. } = endpoint;
            limited(store::shorten_lease(&self.pool, *id, *fence, rest)).await?
        };
        if let Err(error) = repeat(shorten, Instant::now() + LEASE, stop).await {
            tracing::warn!(webhook_endpoint = %endpoint.id, %error,
                "the lease of a webhook endpoint was not shortened: it runs out by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn attempts_have_time_after_slow_reads_and_end_before_the_lease() {
        let claimed = Instant::now();
        for (read, end) in [(0, 10), (12, 22), (15, 25), (READ.as_secs(), 25)] {
            let read = claimed + Duration::from_secs(read);
            assert_eq!(turn_end(claimed, read), claimed + Duration::from_secs(end));
        }
    }

    #[test]
    fn only_errors_of_the_database_that_may_pass_end_a_lease() {
        let of_database: [anyhow::Error; 3] =
            [NoAnswer.into(), StoreError::from(NoAnswer).into(), SlowReads.into()];
        for error in of_database {
            assert!(may_pass(&error), "{error:#}");
        }
        let invalid = StoreError::InvalidRow("event 7".to_owned());
        for error in [anyhow::Error::from(invalid), anyhow::anyhow!("the endpoint has no secret")] {
            assert!(!may_pass(&error), "{error:#}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_as_long_as_it_ends_in_time() {
        let stop = CancellationToken::new();
        let calls = Cell::new(0);
        let fails = || {
            calls.set(calls.get() + 1);
            std::future::ready(Err::<(), _>(StoreError::from(NoAnswer)))
        };
        // After 0, 0.5, 1.5 and 3.5 s. The next one would be at 7.5 s, and end at 22.5 s.
        let end = Instant::now() + Duration::from_secs(22);
        assert!(repeat(fails, end, &stop).await.is_err());
        assert_eq!(calls.get(), 4);
        stop.cancel();
        assert!(repeat(fails, Instant::now() + LEASE, &stop).await.is_err());
        assert_eq!(calls.get(), 5);
    }
}
