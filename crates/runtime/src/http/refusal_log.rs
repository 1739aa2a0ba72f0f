//! Logs refused requests, and counts them by kind. A flood of them does not flood the log, and the
//! metric counts each one.
//!
//! Requests without a valid token have lines of their own: they do not hide those of a caller. Nor
//! does one caller hide those of another. Addresses with too many of them have theirs, too: the
//! tokens that are looked at would take every line, because both limits admit at the same instants.

use std::{
    convert::Infallible,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::response::Response;
use contract::UserId;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use metrics::{counter, describe_counter};
use quick_cache::sync::Cache;
use tracing::field::display;

use super::problem::Problem;

const REFUSALS: &str = "passbook_http_refusals_total";
const KINDS: [&str; 4] = ["unauthenticated", "address", "forbidden", "hidden"];

/// Lines a second about requests without a valid token.
const MAX_WITHOUT_CALLER: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Lines a second about addresses with too many of them.
const MAX_OF_ADDRESSES: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// Lines a second about a caller, and about all callers.
const MAX_OF_CALLER: NonZeroU32 = NonZeroU32::new(5).unwrap();
const MAX_OF_CALLERS: NonZeroU32 = NonZeroU32::new(50).unwrap();
/// Callers whose lines are counted. Those without a refusal for a long time are forgotten first.
const CALLERS: usize = 1000;

/// Who was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request has no valid token. The address of its client, if it is known.
    Unauthenticated(Option<IpAddr>),
    /// There are too many of these from this address.
    Limited(IpAddr),
    /// The caller lacks a scope.
    Forbidden(UserId),
    /// The caller asked for what belongs to somebody else. The response does not tell.
    Hidden(UserId),
}

impl Refusal {
    const fn kind(&self) -> &'static str {
        let [unauthenticated, address, forbidden, hidden] = KINDS;
        match self {
            Self::Unauthenticated(_) => unauthenticated,
            Self::Limited(_) => address,
            Self::Forbidden(_) => forbidden,
            Self::Hidden(_) => hidden,
        }
    }

    const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Unauthenticated(address) => *address,
            Self::Limited(address) => Some(*address),
            Self::Forbidden(_) | Self::Hidden(_) => None,
        }
    }
}

/// The log of a service.
#[derive(Debug, Clone)]
pub(super) struct RefusalLog(Arc<State>);

#[derive(Debug)]
struct State {
    without_caller: Lines,
    addresses: Lines,
    callers: Lines,
    of_caller: Cache<UserId, Arc<DefaultDirectRateLimiter>>,
}

/// The lines of some refusals.
#[derive(Debug)]
struct Lines {
    limiter: DefaultDirectRateLimiter,
    /// Refusals since the last one that was logged.
    unlogged: AtomicU64,
}

impl Lines {
    fn new(a_second: NonZeroU32) -> Self {
        let limiter = RateLimiter::direct(Quota::per_second(a_second));
        Self { limiter, unlogged: AtomicU64::new(0) }
    }

    /// The number of refusals that were not logged before this one. `None`: nor is this one.
    fn next(&self, is_admitted: bool) -> Option<u64> {
        if is_admitted && self.limiter.check().is_ok() {
            return Some(self.unlogged.swap(0, Ordering::Relaxed));
        }
        self.unlogged.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for RefusalLog {
    fn default() -> Self {
        describe_counter!(REFUSALS, "Requests that were refused because of their token, by kind.");
        KINDS.iter().for_each(|kind| counter!(REFUSALS, "kind" => *kind).increment(0));
        Self(Arc::new(State {
            without_caller: Lines::new(MAX_WITHOUT_CALLER),
            addresses: Lines::new(MAX_OF_ADDRESSES),
            callers: Lines::new(MAX_OF_CALLERS),
            of_caller: Cache::new(CALLERS),
        }))
    }
}

impl RefusalLog {
    /// Logs the response, if it is a refusal. Runs in the span of its request.
    pub(super) fn note_response(&self, response: &Response) {
        if response.status().is_client_error()
            && let Some(problem) = response.extensions().get::<Problem>()
        {
            self.note(problem);
        }
    }

    /// Logs the problem, if it is a refusal. Runs in the span of its request.
    pub(super) fn note(&self, problem: &Problem) {
        let Some(refusal) = problem.refusal() else { return };
        let (kind, address) = (refusal.kind(), refusal.address().map(display));
        counter!(REFUSALS, "kind" => kind).increment(1);
        if let Some(unlogged) = self.0.unlogged(refusal) {
            let (status, reason) = (problem.status().as_u16(), problem.detail());
            tracing::warn!(kind, status, reason, address, unlogged, "a request was refused");
        }
    }
}

impl State {
    fn unlogged(&self, refusal: &Refusal) -> Option<u64> {
        let caller = match refusal {
            Refusal::Unauthenticated(_) => return self.without_caller.next(true),
            Refusal::Limited(_) => return self.addresses.next(true),
            Refusal::Forbidden(caller) | Refusal::Hidden(caller) => caller,
        };
        let new = || Ok(Arc::new(RateLimiter::direct(Quota::per_second(MAX_OF_CALLER))));
        let own = self.of_caller.get_or_insert_with::<_, Infallible>(caller, new);
        self.callers.next(own.is_ok_and(|own| own.check().is_ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Refusal {
        Refusal::Hidden(UserId::try_from(name.to_owned()).unwrap())
    }

    #[test]
    fn neither_invalid_tokens_nor_another_caller_hide_a_callers_refusal() {
        let RefusalLog(state) = RefusalLog::default();
        let flood =
            |refusal: &Refusal| (0..1000).filter(|_| state.unlogged(refusal).is_some()).count();
        let (ann, bob) = (of("ann"), of("bob"));
        let (invalid, of_ann) = (flood(&Refusal::Unauthenticated(None)), flood(&ann));
        // The limits are for a second. A slow machine takes longer.
        assert!((10..200).contains(&invalid) && (5..200).contains(&of_ann), "{invalid} {of_ann}");
        let unlogged = u64::try_from(1000 - of_ann).unwrap();
        assert_eq!(state.unlogged(&bob), Some(unlogged));
        assert_eq!(state.unlogged(&bob), Some(0));
        let address = Refusal::Limited(IpAddr::from([127, 0, 0, 2]));
        assert_eq!(state.unlogged(&address), Some(0));
    }

    #[test]
    fn many_callers_take_bounded_memory_and_lines() {
        let RefusalLog(state) = RefusalLog::default();
        let callers = (0..5000).map(|number| of(&number.to_string()));
        let logged = callers.filter(|caller| state.unlogged(caller).is_some()).count();
        assert!((50..1000).contains(&logged), "{logged}");
        assert!(state.of_caller.len() <= CALLERS);
    }
}
