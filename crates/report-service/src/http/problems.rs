//! The problems of this service's API. The `type` of a problem never changes.
//! `runtime::http::problem` has the problems of every service.

use contract::ReportId;
use runtime::{
    http::problem::{Problem, UNAVAILABLE},
    problem_types,
};

problem_types! {
    /// No account has this id.
    pub(super) const ACCOUNT_NOT_FOUND: (NOT_FOUND, "account-not-found",
        "There is no such account.",
        "Compare the id with the `accountId` that opening the account returned.");
    /// No report has this id, or it is the report of another customer.
    pub(super) const REPORT_NOT_FOUND: (NOT_FOUND, "report-not-found",
        "There is no such report.",
        "Compare the id with the `reportId` or the `Location` of the request for the report.");
    /// The report has no file of this format, or not yet. Or the system has no key for signatures.
    pub(super) const ARTIFACT_NOT_FOUND: (NOT_FOUND, "artifact-not-found",
        "There is no such file.",
        "Wait until the report is SUCCEEDED, and use the `href` of one of its `artifacts`.");
    /// The file was deleted after its time.
    pub(super) const ARTIFACT_EXPIRED: (GONE, "artifact-expired",
        "The file has expired.",
        "Ask for the report again, with a new `Idempotency-Key`: the same period gives the same \
         file.");
    /// The stored file is missing, or is not the one that was stored. It was logged.
    pub(super) const ARTIFACT_DAMAGED: (INTERNAL_SERVER_ERROR, "artifact-damaged",
        "The stored file is missing or damaged.",
        "Ask for the report again, with a new `Idempotency-Key`.");
    /// The range in the header `Range` is outside the file.
    pub(super) const RANGE_NOT_SATISFIABLE: (RANGE_NOT_SATISFIABLE, "range-not-satisfiable",
        "The range is outside the file.",
        "Ask for a range within the length that `Content-Range` names, or leave out `Range`.");
    /// The customer has as many open reports as allowed: QUEUED or RUNNING ones. Nothing was stored.
    pub(super) const TOO_MANY_OPEN_REPORTS: (TOO_MANY_REQUESTS, "too-many-open-reports",
        "The caller has too many open reports.",
        "Wait until a report has ended, or cancel one. Then send the request again.");
    /// The caller has too many streams of events.
    pub(super) const TOO_MANY_STREAMS: (TOO_MANY_REQUESTS, "too-many-streams",
        "The caller has too many streams.",
        "Close other streams, or read pages. Try again after the seconds in `Retry-After`.");
    /// The state of the report does not allow the request: an ended report can't be cancelled, and
    /// only one that is FAILED or CANCELLED can be retried.
    pub(super) const STATE_CONFLICT: (CONFLICT, "report-state-conflict",
        "The state of the report does not allow this.",
        "Look at the `state` of the report.");
}

pub(super) fn report_not_found(id: ReportId) -> Problem {
    REPORT_NOT_FOUND.because(format!("No report has the id {id}."))
}

/// The databases with the figures, or the storage, do not answer.
pub(super) fn unavailable(what: &str, error: &dyn std::fmt::Display) -> Problem {
    tracing::warn!(%error, "{what} is unavailable");
    UNAVAILABLE
        .because(format!("{what} is unavailable. Nothing was stored; try again."))
        .retry_after(1)
}
