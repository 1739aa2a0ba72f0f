//! What the services' streams of server-sent events have in common: the interval of comments, the
//! check of the token, and the places of each caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use contract::{Scope, UserId};
use tokio::time::{Instant, sleep_until};

use super::{
    bearer::{Caller, TokenVerifier},
    problem::UNAUTHENTICATED,
};

/// Interval of comments that keep the connection open.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Interval at which the token is verified again: it may have expired.
const CHECK_TOKEN_EVERY: Duration = Duration::from_secs(5);
/// The same of an API key: it may be revoked. With the age of its look-up ([`RECHECK`]), a stream
/// ends within five seconds.
///
/// [`RECHECK`]: super::bearer::RECHECK
const CHECK_KEY_EVERY: Duration = Duration::from_millis(500);

/// Verifies the token or API key of a stream again and again.
#[derive(Debug)]
pub struct TokenCheck {
    verifier: TokenVerifier,
    /// Of the request, with its token or API key.
    headers: HeaderMap,
    every: Duration,
    next: Instant,
}

impl TokenCheck {
    /// The check of the request with these headers, whose caller was verified just now.
    #[must_use]
    pub fn new(verifier: TokenVerifier, headers: HeaderMap, caller: &Caller) -> Self {
        let every = if caller.api_key.is_some() { CHECK_KEY_EVERY } else { CHECK_TOKEN_EVERY };
        Self { verifier, headers, every, next: Instant::now() + every }
    }

    /// Waits until [`TokenCheck::is_allowed`] verifies the token again.
    pub async fn due(&self) {
        sleep_until(self.next).await;
    }

    /// Whether the token is still valid. A failure to verify it is no reason to end.
    pub async fn is_allowed(&mut self) -> bool {
        if Instant::now() < self.next {
            return true;
        }
        self.next = Instant::now() + self.every;
        let caller = self.verifier.caller_of(&self.headers).await;
        !caller.is_err_and(|problem| problem.is(UNAUTHENTICATED))
    }
}

/// The streams of each caller. Their number is bounded: nobody takes the places of all others.
#[derive(Debug, Clone)]
pub struct CallerPlaces {
    of_customer: usize,
    of_other: usize,
    taken: Arc<Mutex<HashMap<UserId, usize>>>,
}

/// The place of one stream.
#[derive(Debug)]
pub struct CallerPlace {
    taken: Arc<Mutex<HashMap<UserId, usize>>>,
    caller: UserId,
}

impl CallerPlaces {
    /// The places in a process that serves `most` streams: so many for a customer, and a quarter of
    /// all for a caller with `accounts:any`, which may be a service with many clients of its own.
    #[must_use]
    pub fn new(of_customer: usize, most: usize) -> Self {
        Self { of_customer, of_other: of_customer.max(most / 4), taken: Arc::default() }
    }

    /// A place of this caller.
    ///
    /// # Errors
    /// How many it may have, if it has as many.
    pub fn take(&self, caller: &Caller) -> Result<CallerPlace, usize> {
        let is_customer = !caller.scopes.contains(Scope::AccountsAny);
        let most = if is_customer { self.of_customer } else { self.of_other };
        let mut taken = lock(&self.taken);
        let streams = taken.entry(caller.user_id.clone()).or_default();
        if *streams >= most {
            return Err(most);
        }
        *streams += 1;
        drop(taken);
        Ok(CallerPlace { taken: Arc::clone(&self.taken), caller: caller.user_id.clone() })
    }
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(streams) = taken.get_mut(&self.caller) {
            *streams = streams.saturating_sub(1);
            if *streams == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

fn lock(taken: &Mutex<HashMap<UserId, usize>>) -> MutexGuard<'_, HashMap<UserId, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use contract::Scopes;

    use super::*;

    fn caller(name: &str, scopes: Scopes) -> Caller {
        Caller { user_id: name.to_owned().try_into().unwrap(), scopes, api_key: None }
    }

    #[test]
    fn each_caller_has_a_number_of_places_and_leaves_nothing_behind() {
        let (ann, ben) = (caller("ann", Scopes::default()), caller("ben", Scopes::default()));
        let teller = caller("teller", Scopes::all());
        let places = CallerPlaces::new(2, 16);
        let mut taken = Vec::new();
        for (caller, most) in [(&ann, 2), (&teller, 4), (&ben, 2)] {
            taken.extend((0..most).map(|_| places.take(caller).unwrap()));
            assert_eq!(places.take(caller).unwrap_err(), most);
        }
        taken.remove(0);
        let again = places.take(&ann).unwrap();
        assert_eq!(places.take(&ann).unwrap_err(), 2);
        drop((taken, again));
        assert!(lock(&places.taken).is_empty());
        // Where there are few places, a caller with a wider reach has no fewer than a customer.
        let places = CallerPlaces::new(2, 4);
        let _both = [places.take(&teller).unwrap(), places.take(&teller).unwrap()];
        assert_eq!(places.take(&teller).unwrap_err(), 2);
    }
}
