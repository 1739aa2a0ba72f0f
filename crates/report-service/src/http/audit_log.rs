//! `/v1/reports/audit-log`: who did what to which report.

use ::audit_log::{AuditPage, AuditQuery};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use contract::Scope;
use runtime::http::{bearer::Caller, problem::Problem};

use super::ApiState;
use crate::store::{AuditAction, StoreError};

/// Read the audit log of reports
///
/// Who asked for which report, retried it or cancelled it. Newest first. An entry is stored
/// together with what it tells, and never changes. A refused request, one that changes nothing,
/// such as a retry with the same `Idempotency-Key`, and a download have no entry. What callers do
/// elsewhere is in `GET /v1/audit-log`.
///
/// The order is that of the clocks of the service's replicas. So, for some seconds, an entry may
/// appear behind newer ones: a client that copies the log reads a minute of it again.
#[utoipa::path(get, path = "/v1/reports/audit-log", tag = "Audit log",
    operation_id = "listReportAuditLog",
    params(AuditQuery),
    security(("token" = ["audit:read"])),
    responses((status = OK, body = AuditPage, description = "A page of entries.")))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::AuditRead)?;
    let actions = AuditAction::ALL.map(AuditAction::as_str);
    ::audit_log::respond::<StoreError>(&api.pool, "report-audit-log", &actions, query).await
}
