//! The permits for batches in process.

use std::sync::Arc;

use runtime::http::problem::{Problem, UNAVAILABLE};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::batches::PERMIT_LIMIT;

/// Waits for a permit, and counts the movements with it: a batch that gets none uses up nothing.
pub(super) async fn permit(
    permits: &Arc<Semaphore>,
    count: impl FnOnce() -> Result<(), Problem>,
) -> Result<OwnedSemaphorePermit, Problem> {
    let permit = timeout(PERMIT_LIMIT, Arc::clone(permits).acquire_owned()).await;
    let permit = permit.ok().and_then(Result::ok).ok_or_else(too_many)?;
    count().map(|()| permit)
}

pub(super) fn too_many() -> Problem {
    UNAVAILABLE.because("Too many batches are in process. Nothing was stored.").retry_after(1)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use contract::{Scopes, UserId};
    use runtime::http::{bearer::Caller, rate_limit::RateLimits};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_batch_without_a_permit_uses_up_no_movements() {
        let limits = RateLimits::new(0, 0).with_batches(1, 0, 100);
        let user_id = UserId::try_from("ann".to_owned()).unwrap();
        let caller = Caller { user_id, scopes: Scopes::customer(), api_key: None };
        let number = NonZeroU32::new(100).unwrap();
        let count = || limits.admit_movements(&caller, number, None);
        let permits = Arc::new(Semaphore::new(0));
        assert!(permit(&permits, count).await.unwrap_err().is(UNAVAILABLE));
        permits.add_permits(1);
        drop(permit(&permits, count).await.unwrap());
        assert_eq!(permit(&permits, count).await.unwrap_err().status(), 429);
        assert_eq!(permits.available_permits(), 1);
    }
}
