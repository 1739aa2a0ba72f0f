//! Places for the work of each caller: one caller's requests wait for each other, and take no
//! places of others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contract::UserId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The same number of places for each caller.
#[derive(Debug, Clone)]
pub struct Places {
    of_each: usize,
    callers: Arc<Mutex<Callers>>,
}

/// The callers with a place, or with requests that wait for one.
type Callers = HashMap<UserId, Requests>;

#[derive(Debug)]
struct Requests {
    places: Arc<Semaphore>,
    number: usize,
}

/// The place of one request, until this is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _request: Request,
}

/// A request that has a place, or waits for one.
#[derive(Debug)]
struct Request {
    callers: Arc<Mutex<Callers>>,
    caller: UserId,
}

impl Places {
    /// This many places for each caller.
    #[must_use]
    pub fn new(of_each: usize) -> Self {
        Self { of_each, callers: Arc::default() }
    }

    /// Waits for a place of this caller: first come, first served. `None` never happens, because
    /// no semaphore is closed.
    pub async fn take(&self, caller: &UserId) -> Option<Place> {
        let (request, places) = self.begin(caller);
        let permit = places.acquire_owned().await.ok()?;
        Some(Place { _permit: permit, _request: request })
    }

    fn begin(&self, caller: &UserId) -> (Request, Arc<Semaphore>) {
        let mut callers = lock(&self.callers);
        let requests = callers.entry(caller.clone()).or_insert_with(|| Requests {
            places: Arc::new(Semaphore::new(self.of_each)),
            number: 0,
        });
        requests.number += 1;
        let places = Arc::clone(&requests.places);
        drop(callers);
        (Request { callers: Arc::clone(&self.callers), caller: caller.clone() }, places)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut callers = lock(&self.callers);
        if let Some(requests) = callers.get_mut(&self.caller) {
            requests.number = requests.number.saturating_sub(1);
            if requests.number == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

fn lock(callers: &Mutex<Callers>) -> MutexGuard<'_, Callers> {
    callers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn caller(name: &str) -> UserId {
        name.to_owned().try_into().unwrap()
    }

    #[tokio::test]
    async fn a_caller_has_its_own_places_and_leaves_nothing_behind() {
        let places = Places::new(2);
        let (ann, ben) = (caller("ann"), caller("ben"));
        let first = places.take(&ann).now_or_never().unwrap();
        let second = places.take(&ann).now_or_never().unwrap();
        assert!(places.take(&ann).now_or_never().is_none());
        let mut waiting = Box::pin(places.take(&ann));
        assert!(waiting.as_mut().now_or_never().is_none());
        let other = places.take(&ben).now_or_never().unwrap();
        drop(first);
        let third = waiting.now_or_never().unwrap();
        drop((second, third, other));
        assert!(lock(&places.callers).is_empty());
    }
}
