//! The problems of this service's API. The `type` of a problem never changes.
//! `runtime::http::problem` has the problems of every service.

use std::future::Future;

use contract::AccountId;
use runtime::{
    http::problem::{self, Problem},
    postgres::CallError,
    problem_types,
};
use tokio::time::Instant;

use crate::store::StoreError;

problem_types! {
    /// No account has this id.
    pub(super) const ACCOUNT_NOT_FOUND: (NOT_FOUND, "account-not-found",
        "There is no such account.",
        "Compare the id with the `accountId` that opening the account returned.");
    /// No record has this id.
    pub(super) const RECORD_NOT_FOUND: (NOT_FOUND, "record-not-found",
        "There is no such record.",
        "Compare the id with the `recordId` or the `Location` of the deposit or withdrawal.");
    /// The caller has too many streams of events.
    pub(super) const TOO_MANY_STREAMS: (TOO_MANY_REQUESTS, "too-many-streams",
        "The caller has too many streams.",
        "Close other streams, or read pages. Try again after the seconds in `Retry-After`.");
    /// No API key has this id.
    pub(super) const API_KEY_NOT_FOUND: (NOT_FOUND, "api-key-not-found",
        "There is no such API key.",
        "Compare the id with the `apiKeyId` in the list of keys.");
    /// The ledger's database can't be read now, or its replica is behind. Other requests are not
    /// affected.
    pub(super) const LEDGER_UNAVAILABLE: (SERVICE_UNAVAILABLE, "ledger-unavailable",
        "The ledger can't be read now.",
        "Send the request again after the seconds in `Retry-After`. Without `consistency=ledger` and \
         `at`, the answer comes from this service's copy.");
    /// The request asks for a read of the ledger, and this service has no access to it.
    pub(super) const LEDGER_READS_OFF: (NOT_IMPLEMENTED, "ledger-reads-off",
        "The service does not read the ledger.",
        "Leave out `consistency=ledger`, or ask the operator for the setting that `detail` names.");
}

pub(super) fn account_not_found(id: AccountId) -> Problem {
    ACCOUNT_NOT_FOUND.because(format!("No account has the id {id}."))
}

/// Queues a write until the deadline.
pub(super) async fn queue<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Problem> {
    let result = tokio::time::timeout_at(deadline, call).await;
    result
        .unwrap_or(Err(StoreError::NotQueued))
        .map_err(|error| problem::of_database(&error, error.is_transient()))
}
