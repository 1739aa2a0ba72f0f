//! `consistency=ledger`: a read from the ledger instead of this service's copy.

use std::future::Future;

use axum::extract::{Query, rejection::QueryRejection};
use runtime::http::{
    page,
    parameter::unknown,
    problem::{self, INVALID_FIELD, Problem},
    timestamp::Timestamp,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Api,
    problems::{LEDGER_READS_OFF, LEDGER_UNAVAILABLE},
    schemas,
};
use crate::ledger_reads::{LedgerReads, ReadError, SETTING};

/// The parameters of the query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsistencyQuery {
    /// Where to read. By default, from this service's copy of the ledger.
    #[param(inline, value_type = Option<schemas::Consistency>)]
    consistency: Option<String>,
}

impl ConsistencyQuery {
    /// The ledger, if the request asks for it.
    ///
    /// # Errors
    /// `invalid-query`, `invalid-field` or `ledger-reads-off`
    pub(super) fn ledger(
        query: Result<Query<Self>, QueryRejection>,
        api: &Api,
    ) -> Result<Option<&LedgerReads>, Problem> {
        let query = page::query(query, "consistency")?;
        if is_ledger(query.consistency.as_deref())? { ledger_of(api).map(Some) } else { Ok(None) }
    }
}

/// Whether the parameter `consistency` asks for the ledger.
///
/// # Errors
/// `invalid-field`
pub(super) fn is_ledger(consistency: Option<&str>) -> Result<bool, Problem> {
    match consistency {
        None => Ok(false),
        Some("ledger") => Ok(true),
        Some(_) => Err(unknown("consistency", &["ledger"])),
    }
}

/// The ledger, if this service may read it.
///
/// # Errors
/// `ledger-reads-off`
pub(super) fn ledger_of(api: &Api) -> Result<&LedgerReads, Problem> {
    api.ledger.as_ref().ok_or_else(|| {
        let detail = format!(
            "This service does not read the ledger. Its operator sets {SETTING} to allow it."
        );
        LEDGER_READS_OFF.because(detail)
    })
}

/// Reads from the ledger.
///
/// # Errors
/// `ledger-unavailable`, `unavailable`, `internal`, or `invalid-field` for an instant in the future
pub(super) async fn read<T>(
    read: impl Future<Output = Result<T, ReadError>>,
) -> Result<T, Problem> {
    read.await.map_err(|error| match error {
        ReadError::Future(now) => {
            let now = Timestamp(now);
            let detail = format!(
                "at must not be in the future: the ledger's clock is {now}. Leave at out for the \
                 present."
            );
            INVALID_FIELD.because(detail).at_parameter("at")
        }
        ReadError::Ledger(_) if error.is_transient() => {
            tracing::warn!(%error, "the ledger can't be read");
            let detail = "The ledger can't be read now. Deposits and withdrawals are not affected. \
                          Try again.";
            LEDGER_UNAVAILABLE.because(detail).retry_after(1)
        }
        error => problem::of_database(&error, error.is_transient()),
    })
}
