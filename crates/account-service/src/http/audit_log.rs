//! `/v1/audit-log`: who did what to which resource.

use audit_log::{AuditPage, AuditQuery};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use contract::Scope;
use runtime::http::{bearer::Caller, problem::Problem};

use super::ApiState;
use crate::store::{AuditAction, StoreError};

/// Read the audit log
///
/// Who did what to which resource: the API keys that were created and revoked, the accounts that
/// were opened for another owner than the caller, and what was done to webhook endpoints. Newest
/// first. An entry is stored together with what it tells, and never changes. A refused request, and
/// one that changes nothing, such as a retry, has no entry.
///
/// A movement has no entry: `requestedBy` of its record names the caller. Reports have a log of their own,
/// `GET /v1/reports/audit-log`.
///
/// The order is that of the clocks of the service's replicas. So, for some seconds, an entry may
/// appear behind newer ones: a client that copies the log reads a minute of it again.
#[utoipa::path(get, path = "/v1/audit-log", tag = "Audit log", operation_id = "listAuditLog",
    params(AuditQuery),
    security(("token" = ["audit:read"]), ("apiKey" = ["audit:read"])),
    responses((status = OK, body = AuditPage, description = "A page of entries.")))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::AuditRead)?;
    let actions = AuditAction::ALL.map(AuditAction::as_str);
    audit_log::respond::<StoreError>(&api.pool, "audit-log", &actions, query).await
}
