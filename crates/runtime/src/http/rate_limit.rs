//! The limits of each caller's rate of requests, by the `RateLimit` header fields of the IETF's
//! draft (draft-ietf-httpapi-ratelimit-headers).
//!
//! Each replica counts for itself: a caller whose requests reach n replicas may send up to n
//! times as many. A shared count would cost each request a round trip.
//!
//! A batch is one request. Its movements have a limit of their own.

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
    unread::UnreadResponses,
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
    requests: Limits,
    /// Of movements in batches.
    movements: Limits,
    pub(super) unread: UnreadResponses,
}

/// The limits of one kind of work.
#[derive(Debug, Clone, Default)]
struct Limits {
    customers: Option<Arc<RateLimit>>,
    others: Option<Arc<RateLimit>>,
}

impl Limits {
    fn of(&self, caller: &Caller) -> Option<&Arc<RateLimit>> {
        let is_customer = !caller.scopes.contains(Scope::AccountsAny);
        if is_customer { self.customers.as_ref() } else { self.others.as_ref() }
    }
}

/// One limit, for each caller alone.
#[derive(Debug)]
struct RateLimit {
    /// In the header fields.
    name: &'static str,
    /// In words, with what is counted.
    words: (&'static str, &'static str),
    a_second: NonZeroU32,
    /// As many may be used at once.
    burst: NonZeroU32,
    limiter: Limiter,
    checks: AtomicU32,
}

impl RateLimits {
    /// Limits in requests a second, of each customer and of each other caller. 0: no limit.
    #[must_use]
    pub fn new(customers: u32, others: u32) -> Self {
        let limit = |name, who, a_second| RateLimit::new(name, (who, "requests"), a_second, 1);
        let requests = Limits {
            customers: limit("customer", "customer", customers),
            others: limit("caller", "caller", others),
        };
        Self { requests, ..Self::default() }
    }

    /// Adds limits in movements a second, of the batches of each customer and of each other caller.
    /// 0: no limit. A batch of `largest` movements is within each limit.
    #[must_use]
    pub fn with_batches(self, customers: u32, others: u32, largest: u32) -> Self {
        let limit = |name, who, a_second| {
            RateLimit::new(name, (who, "movements in batches"), a_second, largest)
        };
        let movements = Limits {
            customers: limit("customer-batch", "customer", customers),
            others: limit("caller-batch", "caller", others),
        };
        Self { movements, ..self }
    }

    /// Counts a request of this caller. Notes the caller and the state in the slot among
    /// `extensions`.
    ///
    /// # Errors
    /// `too-many-requests`
    pub(super) fn admit(&self, caller: &Caller, extensions: &Extensions) -> Result<(), Problem> {
        let slot = extensions.get::<RateSlot>();
        if let Some(slot) = slot {
            let _ = slot.0.caller.set(caller.user_id.clone());
        }
        self.unread.admit(&caller.user_id)?;
        let Some(limit) = self.requests.of(caller) else { return Ok(()) };
        limit.admit(caller, NonZeroU32::MIN, slot.map(|slot| &slot.0.requests))
    }

    /// Counts the movements of a batch of this caller. Notes the state in the slot among the
    /// extensions of its request.
    ///
    /// # Errors
    /// `too-many-requests`. Nothing was counted.
    pub fn admit_movements(
        &self,
        caller: &Caller,
        number: NonZeroU32,
        slot: Option<&RateSlot>,
    ) -> Result<(), Problem> {
        let Some(limit) = self.movements.of(caller) else { return Ok(()) };
        limit.admit(caller, number, slot.map(|slot| &slot.0.movements))
    }
}

impl RateLimit {
    fn new(
        name: &'static str,
        words: (&'static str, &'static str),
        a_second: u32,
        least_burst: u32,
    ) -> Option<Arc<Self>> {
        let a_second = NonZeroU32::new(a_second)?;
        let burst = a_second.saturating_mul(NonZeroU32::new(WINDOW_SECONDS)?);
        let burst = burst.max(NonZeroU32::new(least_burst)?);
        let limiter = RateLimiter::keyed(Quota::per_second(a_second).allow_burst(burst));
        let (limiter, checks) = (limiter.with_middleware(), AtomicU32::new(0));
        Some(Arc::new(Self { name, words, a_second, burst, limiter, checks }))
    }

    /// Counts this number, all or none, and notes the state.
    fn admit(
        self: &Arc<Self>,
        caller: &Caller,
        number: NonZeroU32,
        state: Option<&OnceLock<RateState>>,
    ) -> Result<(), Problem> {
        let (remaining, wait) = self.count(&caller.user_id, number);
        if let Some(state) = state {
            let _ = state.set(RateState { limit: Arc::clone(self), remaining });
        }
        let Some(wait) = wait else { return Ok(()) };
        let seconds = u16::try_from(wait.as_secs()).unwrap_or(u16::MAX).saturating_add(1);
        let (who, what) = self.words;
        let detail = format!(
            "A {who} may send {} {what} a second, {} at once. Nothing was stored.",
            self.a_second, self.burst
        );
        Err(TOO_MANY_REQUESTS.because(detail).retry_after(seconds))
    }

    /// What remains, and how long to wait if it is too little.
    fn count(&self, caller: &UserId, number: NonZeroU32) -> (u32, Option<Duration>) {
        if self.checks.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            self.limiter.retain_recent();
        }
        match self.limiter.check_key_n(caller, number) {
            Ok(Ok(state)) => (state.remaining_burst_capacity(), None),
            Ok(Err(until)) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                let missing = wait.as_millis() * u128::from(self.a_second.get());
                let missing = u32::try_from(missing.div_ceil(1000)).unwrap_or(u32::MAX);
                (number.get().saturating_sub(missing.max(1)), Some(wait))
            }
            // More than at once: no wait is long enough.
            Err(_) => (0, Some(Duration::from_secs(self.window().into()))),
        }
    }

    /// The seconds in which as many come back as may be used at once.
    const fn window(&self) -> u32 {
        self.burst.get().div_ceil(self.a_second.get())
    }
}

/// The state of a limit after a request.
#[derive(Debug)]
struct RateState {
    limit: Arc<RateLimit>,
    remaining: u32,
}

impl RateState {
    fn policy(&self) -> String {
        let RateLimit { name, burst, .. } = &*self.limit;
        format!("\"{name}\";q={burst};w={}", self.limit.window())
    }

    fn text(&self) -> String {
        let Self { limit, remaining } = self;
        let reset = limit.burst.get().saturating_sub(*remaining).div_ceil(limit.a_second.get());
        format!("\"{}\";r={remaining};t={reset}", limit.name)
    }
}

#[derive(Debug, Default)]
struct RateStates {
    caller: OnceLock<UserId>,
    requests: OnceLock<RateState>,
    movements: OnceLock<RateState>,
}

/// Carries the caller and the states from where they are counted to the response. It is among the
/// extensions of a request.
#[derive(Debug, Clone, Default)]
pub struct RateSlot(Arc<RateStates>);

impl RateSlot {
    /// The caller, if the request was authenticated.
    pub(super) fn caller(&self) -> Option<&UserId> {
        self.0.caller.get()
    }

    /// Adds the header fields, if the request was counted.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let RateStates { requests, movements, .. } = &*self.0;
        let states: Vec<_> = [requests, movements].into_iter().filter_map(OnceLock::get).collect();
        if states.is_empty() {
            return;
        }
        let list = |text: fn(&RateState) -> String| {
            states.iter().map(|state| text(state)).collect::<Vec<_>>().join(", ")
        };
        for (field, value) in [(POLICY, list(RateState::policy)), (STATE, list(RateState::text))] {
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
    fn a_batch_counts_its_movements_all_or_none() {
        let limits = RateLimits::new(0, 0).with_batches(2, 0, 100);
        let (ann, bob) = (caller("ann", Scopes::customer()), caller("bob", Scopes::customer()));
        let number = |number| NonZeroU32::new(number).unwrap();
        let slot = RateSlot::default();
        limits.admit_movements(&ann, number(70), Some(&slot)).unwrap();
        let mut headers = HeaderMap::new();
        slot.write(&mut headers);
        assert_eq!(headers[POLICY], "\"customer-batch\";q=100;w=50");
        assert_eq!(headers[STATE], "\"customer-batch\";r=30;t=35");
        let slot = RateSlot::default();
        let problem = limits.admit_movements(&ann, number(80), Some(&slot)).unwrap_err();
        assert_eq!(problem.status(), 429);
        slot.write(&mut headers);
        assert_eq!(headers[STATE], "\"customer-batch\";r=30;t=35");
        limits.admit_movements(&ann, number(30), None).unwrap();
        limits.admit_movements(&bob, number(100), None).unwrap();
        limits.admit_movements(&caller("ann", Scopes::all()), number(1000), None).unwrap();
        limits.admit(&ann, &Extensions::new()).unwrap();
    }

    #[test]
    fn a_response_tells_the_state_of_the_limit() {
        let limits = RateLimits::new(2, 0);
        let slot = RateSlot::default();
        let mut extensions = Extensions::new();
        extensions.insert(slot.clone());
        limits.admit(&caller("ann", Scopes::customer()), &extensions).unwrap();
        let mut headers = HeaderMap::new();
        slot.write(&mut headers);
        assert_eq!(headers[POLICY], "\"customer\";q=20;w=10");
        assert_eq!(headers[STATE], "\"customer\";r=19;t=1");
    }
}
