//! Logs requests that were refused with 401 or 403. A flood of them does not flood the log: the
//! metric counts each one.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{http::StatusCode, response::Response};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::problem::Problem;

/// Logged at most, a second.
const MAX_LOGGED: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// The log of a service.
#[derive(Debug, Clone)]
pub(super) struct RefusalLog(Arc<State>);

#[derive(Debug)]
struct State {
    limiter: DefaultDirectRateLimiter,
    /// Refusals since the last one that was logged.
    unlogged: AtomicU64,
}

impl Default for RefusalLog {
    fn default() -> Self {
        let limiter = RateLimiter::direct(Quota::per_second(MAX_LOGGED));
        Self(Arc::new(State { limiter, unlogged: AtomicU64::new(0) }))
    }
}

impl RefusalLog {
    /// Logs the response, if it is a refusal. Runs in the span of its request.
    pub(super) fn note(&self, response: &Response) {
        if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return;
        }
        let State { limiter, unlogged } = &*self.0;
        if limiter.check().is_err() {
            unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let unlogged = unlogged.swap(0, Ordering::Relaxed);
        let status = response.status().as_u16();
        let reason = response.extensions().get().map(Problem::detail);
        tracing::warn!(status, reason, unlogged, "a request was refused");
    }
}
