//! What can be wrong with a request to this service, in one place: the `type`
//! of each never changes. (`runtime::problem` has those of any service.)

use std::{borrow::Borrow, future::Future, time::Duration};

use axum::http::StatusCode;
use contract::AccountId;
use runtime::{
    postgres::is_transient,
    problem::{INTERNAL, Problem, ProblemType, UNAVAILABLE},
};
use tokio::time::Instant;

/// Longer than any statement may take; who asks a machine that is no more would
/// wait for ever.
pub(super) const LONGEST_ANSWER: Duration = Duration::from_secs(15);

/// No token, or one that is not valid.
pub(super) const UNAUTHENTICATED: ProblemType = ProblemType::new(
    StatusCode::UNAUTHORIZED,
    "unauthenticated",
    "A valid bearer token is needed.",
);
/// A valid token that does not allow this.
pub(super) const FORBIDDEN: ProblemType =
    ProblemType::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow this.");
/// An id in the path that is not of an id's form.
pub(super) const MALFORMED_ID: ProblemType =
    ProblemType::new(StatusCode::BAD_REQUEST, "malformed-id", "An id in the path is no id.");
/// No account with this id.
const ACCOUNT_NOT_FOUND: ProblemType =
    ProblemType::new(StatusCode::NOT_FOUND, "account-not-found", "There is no such account.");
/// No record with this id.
pub(super) const RECORD_NOT_FOUND: ProblemType =
    ProblemType::new(StatusCode::NOT_FOUND, "record-not-found", "There is no such record.");
/// No `Idempotency-Key` header.
pub(super) const KEY_MISSING: ProblemType = ProblemType::new(
    StatusCode::BAD_REQUEST,
    "idempotency-key-missing",
    "The header Idempotency-Key is needed.",
);
/// An `Idempotency-Key` header that can't be one.
pub(super) const KEY_MALFORMED: ProblemType = ProblemType::new(
    StatusCode::BAD_REQUEST,
    "idempotency-key-malformed",
    "The header Idempotency-Key is not a key.",
);
/// The key stands for another request.
pub(super) const KEY_REUSED: ProblemType = ProblemType::new(
    StatusCode::UNPROCESSABLE_ENTITY,
    "idempotency-key-reused",
    "The Idempotency-Key was used for another request.",
);

pub(super) fn account_not_found(id: AccountId) -> Problem {
    ACCOUNT_NOT_FOUND.because(format!("No account has the id {id}."))
}

/// Asks the database, for a bounded time: the one place where its errors
/// become answers.
pub(super) async fn ask<T, E: Borrow<sqlx::Error>>(
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    ask_until(Instant::now() + LONGEST_ANSWER, question).await
}

/// As [`ask`], until then.
pub(super) async fn ask_until<T, E: Borrow<sqlx::Error>>(
    latest: Instant,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    match tokio::time::timeout_at(latest, question).await {
        Ok(answer) => answer.map_err(|error| of_database(error.borrow())),
        Err(_) => Err(of_database(&sqlx::Error::PoolTimedOut)),
    }
}

fn of_database(error: &sqlx::Error) -> Problem {
    if is_transient(error) {
        tracing::warn!(%error, "the database can't answer now");
        UNAVAILABLE
            .because("The database can't answer now. Try again; a movement with the same Idempotency-Key.")
            .retry_after(1)
    } else {
        tracing::error!(%error, "a statement failed");
        INTERNAL.because("This is a bug; it was logged.")
    }
}
