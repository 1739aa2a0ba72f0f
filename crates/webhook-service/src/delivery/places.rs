//! Places: how many endpoints a replica serves at a time.
//!
//! A healthy endpoint that falls silent keeps a healthy place for two seconds. Then it waits for its
//! answer in another place, as long as one is free: their number bounds the requests in memory.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{round::SLOW, store::Lane};

/// The places of a replica.
pub(super) struct Places {
    healthy: Arc<Semaphore>,
    failing: Arc<Semaphore>,
    /// Of healthy endpoints whose answer takes long.
    waiting: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new(places: usize) -> Self {
        let failing = places.div_ceil(4);
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self {
            healthy: semaphore(places.saturating_sub(failing).max(1)),
            failing: semaphore(failing),
            waiting: semaphore(places),
        }
    }

    fn of(&self, lane: Lane) -> &Arc<Semaphore> {
        match lane {
            Lane::Healthy => &self.healthy,
            Lane::Failing => &self.failing,
        }
    }

    /// The number of free places.
    pub(super) fn free(&self, lane: Lane) -> i64 {
        i64::try_from(self.of(lane).available_permits()).unwrap_or(i64::MAX)
    }

    /// Takes a place. Only one task does, so a free one stays free until then.
    pub(super) fn take(&self, lane: Lane) -> Place {
        let permit = Arc::clone(self.of(lane)).try_acquire_owned().ok();
        let held = Mutex::new(Held { is_healthy: lane == Lane::Healthy, _permit: permit });
        Place { held, waiting: Arc::clone(&self.waiting) }
    }
}

/// The place of an endpoint.
pub(super) struct Place {
    held: Mutex<Held>,
    waiting: Arc<Semaphore>,
}

struct Held {
    is_healthy: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Makes an attempt, or a call to the database. Once it is slow, another endpoint may have the
    /// healthy place.
    pub(super) async fn during<T>(&self, attempt: impl Future<Output = T>) -> T {
        let mut attempt = pin!(attempt);
        if let Ok(ended) = timeout(SLOW, attempt.as_mut()).await {
            return ended;
        }
        self.leave_healthy();
        attempt.await
    }

    fn leave_healthy(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_healthy
            && let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned()
        {
            *held = Held { is_healthy: false, _permit: Some(permit) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_takes_long_leaves_the_healthy_place_while_there_are_others() {
        // Three for healthy endpoints, and four that wait.
        let places = Places::new(4);
        let silent = |_| {
            let place = places.take(Lane::Healthy);
            async move { timeout(3 * SLOW, place.during(pending::<()>())).await }
        };
        let silent_ones = || futures::future::join_all((0..3).map(silent));
        let free = || (places.free(Lane::Healthy), places.waiting.available_permits());
        let both = async {
            tokio::time::sleep(SLOW - Duration::from_millis(1)).await;
            assert_eq!(free(), (0, 4));
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(free(), (3, 1));
            silent_ones().await;
        };
        let first = silent_ones();
        tokio::join!(first, both, async {
            tokio::time::sleep(2 * SLOW + Duration::from_millis(2)).await;
            // One of the next three has got the last place. The others stay where they are.
            assert_eq!(free(), (1, 0));
        });
        assert_eq!(free(), (3, 4));
    }
}
