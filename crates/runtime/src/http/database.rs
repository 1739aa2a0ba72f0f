//! Calls of a request to the service's database: their limit, and the problems of their errors.

use std::future::Future;

use tokio::time::{Instant, timeout_at};

use super::problem::{OUTCOME_UNKNOWN, Problem, UNAVAILABLE, of_database};
use crate::postgres::{CALL_LIMIT, CallError, NoAnswer};

/// Reads within [`CALL_LIMIT`].
///
/// # Errors
/// `unavailable` or `internal`
pub async fn read<T, E: CallError>(call: impl Future<Output = Result<T, E>>) -> Result<T, Problem> {
    within(Instant::now() + CALL_LIMIT, call)
        .await
        .map_err(|error| of_database(&error, error.is_transient()))
}

/// Writes within [`CALL_LIMIT`]; see [`write_until`].
///
/// # Errors
/// As [`write_until`].
pub async fn write<T, E: CallError>(
    remedy: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    write_until(Instant::now() + CALL_LIMIT, remedy, call).await
}

/// Writes until the deadline. `remedy` is for a client whose request may or may not have been
/// stored.
///
/// # Errors
/// `outcome-unknown`, `unavailable` or `internal`
pub async fn write_until<T, E: CallError>(
    deadline: Instant,
    remedy: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    within(deadline, call).await.map_err(|error| {
        if error.is_transient() && !error.stored_nothing() {
            tracing::warn!(%error, "the outcome of a write is unknown");
            unknown(remedy)
        } else {
            of_database(&error, error.is_transient())
        }
    })
}

/// A read for the response to a write that is stored: its failure must not say that nothing is.
///
/// # Errors
/// Those of the read, with `outcome-unknown` instead of `unavailable`.
pub async fn after_write<T>(
    remedy: &str,
    read: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    read.await.map_err(|problem| if problem.is(UNAVAILABLE) { unknown(remedy) } else { problem })
}

async fn within<T, E: CallError>(
    deadline: Instant,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout_at(deadline, call).await.unwrap_or_else(|_| Err(NoAnswer.into()))
}

fn unknown(remedy: &str) -> Problem {
    OUTCOME_UNKNOWN.because(remedy).retry_after(1)
}
