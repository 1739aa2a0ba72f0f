//! The problems of this service's API. The `type` of a problem never changes.
//! `runtime::http::problem` has the problems of every service.

use std::future::Future;

use axum::http::StatusCode;
use contract::AccountId;
use runtime::{
    http::problem::{INTERNAL, Problem, ProblemType, UNAVAILABLE},
    postgres::{CALL_LIMIT, NoAnswer},
};
use tokio::time::Instant;

use crate::store::StoreError;

/// No account with this id.
const ACCOUNT_NOT_FOUND: ProblemType =
    ProblemType::new(StatusCode::NOT_FOUND, "account-not-found", "There is no such account.");
/// No record with this id.
pub(super) const RECORD_NOT_FOUND: ProblemType =
    ProblemType::new(StatusCode::NOT_FOUND, "record-not-found", "There is no such record.");
pub(super) fn account_not_found(id: AccountId) -> Problem {
    ACCOUNT_NOT_FOUND.because(format!("No account has the id {id}."))
}

/// Calls the store within [`CALL_LIMIT`]. Only this module maps errors of the store
/// to problems.
pub(super) async fn call<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Problem> {
    call_until(Instant::now() + CALL_LIMIT, call).await
}

/// As [`call`], but with a deadline.
pub(super) async fn call_until<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Problem> {
    let result = tokio::time::timeout_at(deadline, call).await;
    result.unwrap_or(Err(NoAnswer.into())).map_err(|error| problem(&error))
}

fn problem(error: &StoreError) -> Problem {
    if error.is_transient() {
        tracing::warn!(%error, "the database is unavailable");
        UNAVAILABLE
            .because("The database is unavailable. Try again; send a movement with the same Idempotency-Key.")
            .retry_after(1)
    } else {
        tracing::error!(%error, "a statement failed");
        INTERNAL.because("This is a bug; it was logged.")
    }
}
