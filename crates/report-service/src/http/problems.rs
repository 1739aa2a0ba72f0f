//! The problems of this service's API. The `type` of a problem never changes.
//! `runtime::http::problem` has the problems of every service.

use std::future::Future;

use axum::http::StatusCode;
use contract::ReportId;
use runtime::{
    http::problem::{self, OUTCOME_UNKNOWN, Problem, ProblemType, UNAVAILABLE},
    postgres::limited,
};

use crate::store::StoreError;

/// No account with this id.
pub(super) const ACCOUNT_NOT_FOUND: ProblemType =
    ProblemType::new(StatusCode::NOT_FOUND, "account-not-found", "There is no such account.");
/// No report with this id.
const REPORT_NOT_FOUND: ProblemType =
    ProblemType::new(StatusCode::NOT_FOUND, "report-not-found", "There is no such report.");
/// The report has no file of this format, or not yet.
pub(super) const ARTIFACT_NOT_FOUND: ProblemType =
    ProblemType::new(StatusCode::NOT_FOUND, "artifact-not-found", "There is no such file.");
/// The file was deleted after its time.
pub(super) const ARTIFACT_EXPIRED: ProblemType =
    ProblemType::new(StatusCode::GONE, "artifact-expired", "The file has expired.");
/// The stored file is missing, or is not the one that was stored.
pub(super) const ARTIFACT_DAMAGED: ProblemType = ProblemType::new(
    StatusCode::INTERNAL_SERVER_ERROR,
    "artifact-damaged",
    "The stored file is missing or damaged.",
);
/// The range is outside the file.
pub(super) const RANGE_NOT_SATISFIABLE: ProblemType = ProblemType::new(
    StatusCode::RANGE_NOT_SATISFIABLE,
    "range-not-satisfiable",
    "The range is outside the file.",
);
/// The state of the report does not allow the request.
pub(super) const STATE_CONFLICT: ProblemType = ProblemType::new(
    StatusCode::CONFLICT,
    "report-state-conflict",
    "The state of the report does not allow this.",
);

pub(super) fn report_not_found(id: ReportId) -> Problem {
    REPORT_NOT_FOUND.because(format!("No report has the id {id}."))
}

/// Reads from the store within the limit of a call.
pub(super) async fn read<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Problem> {
    limited(call)
        .await
        .unwrap_or_else(|late| Err(late.into()))
        .map_err(|error| problem::of_database(&error, error.is_transient()))
}

/// Writes to the store within the limit of a call. `remedy` is for a client whose request
/// may or may not have been stored.
pub(super) async fn write<T>(
    remedy: &str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Problem> {
    limited(call).await.unwrap_or_else(|late| Err(late.into())).map_err(|error| {
        if error.is_transient() && !error.stored_nothing() {
            problem::of_unknown_write(&error, remedy)
        } else {
            problem::of_database(&error, error.is_transient())
        }
    })
}

/// The problem of a read after a write of the same request: something is stored.
pub(super) fn after_write(remedy: &str, problem: Problem) -> Problem {
    if problem.is(UNAVAILABLE) { OUTCOME_UNKNOWN.because(remedy).retry_after(1) } else { problem }
}

/// The databases with the figures, or the storage, do not answer.
pub(super) fn unavailable(what: &str, error: &dyn std::fmt::Display) -> Problem {
    tracing::warn!(%error, "{what} is unavailable");
    UNAVAILABLE
        .because(format!("{what} is unavailable. Nothing was stored; try again."))
        .retry_after(1)
}
