//! The limits of each caller's rate of requests, by the `RateLimit` header fields of the IETF's
//! draft (draft-ietf-httpapi-ratelimit-headers).
//!
//! Each replica counts for itself: a caller whose requests reach n replicas may send up to n
//! times as many. A shared count would cost each request a round trip.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use contract::{Scope, UserId};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use super::{
    bearer::Caller,
    problem::{Problem, TOO_MANY_REQUESTS},
};

/// A caller may use the requests of this time at once.
const WINDOW_SECONDS: u32 = 10;
/// Callers that have not sent requests lately are forgotten after so many requests.
const FORGET_EVERY: u32 = 1 << 16;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

type Limiter =
    RateLimiter<UserId, DefaultKeyedStateStore<UserId>, DefaultClock, StateInformationMiddleware>;

/// The limits of the callers of a service. A customer is a caller who may use their own accounts
/// only.
#[derive(Debug, Clone, Default)]
pub struct RateLimits {
    customers: Option<Arc<RateLimit>>,
    others: Option<Arc<RateLimit>>,
}

/// One limit, for each caller alone.
#[derive(Debug)]
struct RateLimit {
    name: &'static str,
    a_second: u32,
    limiter: Limiter,
    requests: AtomicU32,
}

impl RateLimits {
    /// Limits in requests a second, of each customer and of each other caller. 0: no limit.
    #[must_use]
    pub fn new(customers: u32, others: u32) -> Self {
        Self {
            customers: RateLimit::new("customer", customers),
            others: RateLimit::new("caller", others),
        }
    }

    /// Where the state of a request's caller is to be noted, if there is a limit.
    pub(super) fn slot(&self) -> Option<RateSlot> {
        (self.customers.is_some() || self.others.is_some()).then(RateSlot::default)
    }

    /// Counts a request of this caller. Notes the state in the slot among `extensions`.
    ///
    /// # Errors
    /// `too-many-requests`
    pub(super) fn admit(&self, caller: &Caller, extensions: &Extensions) -> Result<(), Problem> {
        let is_customer = !caller.scopes.contains(Scope::AccountsAny);
        let limit = if is_customer { &self.customers } else { &self.others };
        let Some(limit) = limit else { return Ok(()) };
        let (remaining, wait) = limit.count(&caller.user_id);
        if let Some(slot) = extensions.get::<RateSlot>() {
            let _ = slot.0.set(RateState { limit: Arc::clone(limit), remaining });
        }
        let Some(wait) = wait else { return Ok(()) };
        let seconds = u16::try_from(wait.as_secs()).unwrap_or(u16::MAX).saturating_add(1);
        let detail = format!(
            "A {} may send {} requests a second, {} at once. Nothing was stored.",
            limit.name,
            limit.a_second,
            limit.quota()
        );
        Err(TOO_MANY_REQUESTS.because(detail).retry_after(seconds))
    }
}

impl RateLimit {
    fn new(name: &'static str, a_second: u32) -> Option<Arc<Self>> {
        let rate = NonZeroU32::new(a_second)?;
        let burst = rate.saturating_mul(NonZeroU32::new(WINDOW_SECONDS)?);
        let limiter = RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst));
        let (limiter, requests) = (limiter.with_middleware(), AtomicU32::new(0));
        Some(Arc::new(Self { name, a_second, limiter, requests }))
    }

    const fn quota(&self) -> u32 {
        self.a_second.saturating_mul(WINDOW_SECONDS)
    }

    /// Requests that remain, and how long to wait if there is none.
    fn count(&self, caller: &UserId) -> (u32, Option<Duration>) {
        if self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            self.limiter.retain_recent();
        }
        match self.limiter.check_key(caller) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(until) => (0, Some(until.wait_time_from(self.limiter.clock().now()))),
        }
    }
}

/// The state of a limit after a request.
#[derive(Debug)]
struct RateState {
    limit: Arc<RateLimit>,
    remaining: u32,
}

/// Carries the state from the extractor of the caller to the response.
#[derive(Debug, Clone, Default)]
pub(super) struct RateSlot(Arc<OnceLock<RateState>>);

impl RateSlot {
    /// Adds the header fields, if the request was counted.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let Some(RateState { limit, remaining }) = self.0.get() else { return };
        let (name, quota) = (limit.name, limit.quota());
        let reset = quota.saturating_sub(*remaining).div_ceil(limit.a_second.max(1));
        let fields = [
            (POLICY, format!("\"{name}\";q={quota};w={WINDOW_SECONDS}")),
            (STATE, format!("\"{name}\";r={remaining};t={reset}")),
        ];
        for (field, value) in fields {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(field, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::Scopes;

    use super::*;

    fn caller(name: &str, scopes: Scopes) -> Caller {
        Caller { user_id: UserId::try_from(name.to_owned()).unwrap(), scopes, api_key: None }
    }

    #[test]
    fn each_caller_has_a_limit_of_its_own() {
        let limits = RateLimits::new(2, 0);
        let (ann, bob) = (caller("ann", Scopes::customer()), caller("bob", Scopes::customer()));
        let none = Extensions::new();
        for _ in 0..20 {
            limits.admit(&ann, &none).unwrap();
        }
        let problem = limits.admit(&ann, &none).unwrap_err();
        assert_eq!(problem.status(), 429);
        limits.admit(&bob, &none).unwrap();
        let teller = caller("ann", Scopes::all());
        for _ in 0..100 {
            limits.admit(&teller, &none).unwrap();
        }
    }

    #[test]
    fn a_response_tells_the_state_of_the_limit() {
        let limits = RateLimits::new(2, 0);
        let slot = limits.slot().unwrap();
        let mut extensions = Extensions::new();
        extensions.insert(slot.clone());
        limits.admit(&caller("ann", Scopes::customer()), &extensions).unwrap();
        let mut headers = HeaderMap::new();
        slot.write(&mut headers);
        assert_eq!(headers[POLICY], "\"customer\";q=20;w=10");
        assert_eq!(headers[STATE], "\"customer\";r=19;t=1");
    }
}
