//! `/v1/audit-log`: who did what to which resource.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use contract::{ApiKeyId, AuditEntryId, Scope};
use runtime::http::{
    bearer::Caller,
    database::read,
    page::{self, Page},
    problem::{INVALID_FIELD, Problem},
    timestamp,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState,
    record_query::{parse_user, unknown},
};
use crate::store::{self, AuditAction, AuditFilter, AuditRow, StoreError};

/// Maximum characters of a resource.
const LONGEST_RESOURCE: usize = 255;

/// What a caller did to a resource.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry, examples(json!({
    "entryId": "01a20008-a38b-7161-bca5-0ac401b01de7",
    "actor": "ann",
    "apiKeyId": null,
    "action": "api-key.created",
    "resource": "/v1/api-keys/01a20008-a367-77bd-a6bf-eaa3667171b3",
    "details": { "scopes": "accounts:read deposits:write", "userId": "bob" },
    "createdAt": "2026-11-21T21:34:55.848209Z",
})))]
struct AuditEntryView {
    #[schema(value_type = Uuid)]
    entry_id: AuditEntryId,
    /// The caller who did it; `webhook-service` for `webhook-endpoint.disabled`.
    actor: String,
    /// The API key that the caller used; null for a token.
    #[schema(required, value_type = Option<Uuid>)]
    api_key_id: Option<ApiKeyId>,
    /// `account.created` (for another owner than the caller), `api-key.created`,
    /// `api-key.revoked`, or of a webhook endpoint `webhook-endpoint.created`, `.changed`,
    /// `.secret-rotated`, `.redelivery-requested`, `.deleted` or `.disabled` (by the service).
    /// Later releases may add actions.
    action: String,
    /// The path of the resource.
    resource: String,
    /// What the action set: of an account `currency` and `ownerId`, of a key `scopes` and
    /// `userId`. Of a webhook endpoint: `ownerId` (unless it is for all accounts), the `origin` of
    /// its URL, the `changed` fields and the new `state`, the `eventId` or `after` of a
    /// redelivery, and `because` it was disabled. Later releases may add members.
    details: BTreeMap<String, String>,
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
}

impl TryFrom<AuditRow> for AuditEntryView {
    type Error = StoreError;

    fn try_from(row: AuditRow) -> Result<Self, StoreError> {
        let invalid = |_| StoreError::InvalidRow(format!("audit entry {}", row.id));
        Ok(Self {
            entry_id: AuditEntryId::from_uuid(row.id),
            details: serde_json::from_str(&row.details).map_err(invalid)?,
            actor: row.actor,
            api_key_id: row.api_key_id.map(ApiKeyId::from_uuid),
            action: row.action,
            resource: row.resource,
            created_at: row.created_at,
        })
    }
}

/// The parameters of the query. Each may be left out.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Only what this caller did.
    #[param(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    actor: Option<String>,
    /// Only this action, such as `api-key.created`.
    #[param(min_length = 1)]
    action: Option<String>,
    /// Only what was done to this resource: its path, such as `/v1/accounts/` and the id.
    #[param(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    resource: Option<String>,
    /// Maximum items of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `nextCursor` of the previous page. All other parameters but `limit` must be the same.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

impl AuditQuery {
    /// The filter.
    ///
    /// # Errors
    /// `invalid-field`
    pub(super) fn filter(&self) -> Result<AuditFilter, Problem> {
        let action = self.action.as_deref().map(|name| {
            let known = AuditAction::ALL.map(AuditAction::as_str);
            AuditAction::parse(name).ok_or_else(|| unknown("action", &known))
        });
        let resource = self.resource.clone().map(|resource| {
            let is_path = (1..=LONGEST_RESOURCE).contains(&resource.len())
                && resource.chars().all(|c| c.is_ascii_graphic());
            is_path.then_some(resource).ok_or_else(|| {
                let detail = format!(
                    "resource must be a path of 1 to {LONGEST_RESOURCE} visible ASCII characters."
                );
                INVALID_FIELD.because(detail).at_parameter("resource")
            })
        });
        Ok(AuditFilter {
            actor: self.actor.clone().map(|actor| parse_user("actor", actor)).transpose()?,
            action: action.transpose()?,
            resource: resource.transpose()?,
        })
    }
}

/// One page of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditPage)]
struct PageView {
    /// Newest first.
    items: Vec<AuditEntryView>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Read the audit log
///
/// Who did what to which resource: the API keys that were created and revoked, the accounts that
/// were opened for another owner than the caller, and what was done to webhook endpoints. Newest
/// first. An entry is stored together with what it tells, and never changes. A refused request, and
/// one that changes nothing, such as a retry, has no entry.
///
/// A movement has no entry: `requestedBy` of its record names the caller. Reports have none either.
///
/// The order is that of the clocks of the service's replicas. So, for some seconds, an entry may
/// appear behind newer ones: a client that copies the log reads a minute of it again.
#[utoipa::path(get, path = "/v1/audit-log", tag = "Audit log", operation_id = "listAuditLog",
    params(AuditQuery),
    security(("token" = ["audit:read"]), ("apiKey" = ["audit:read"])),
    responses((status = OK, body = PageView, description = "A page of entries.")))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::AuditRead)?;
    let query = page::query(query, "actor, action, resource, limit and cursor")?;
    let filter = query.filter()?;
    let list = [
        Some("audit-log"),
        query.actor.as_deref(),
        query.action.as_deref(),
        query.resource.as_deref(),
    ];
    let page = Page::parse(query.limit.as_deref(), query.cursor.as_deref(), &list)?;
    let entries = async {
        let mut rows =
            store::list_audit_log(&api.pool, &filter, page.before, page.to_read()).await?;
        let next_cursor = page.cut(&mut rows, |row| row.id);
        let items = rows.into_iter().map(AuditEntryView::try_from).collect::<Result<_, _>>()?;
        Ok(PageView { items, next_cursor })
    };
    Ok(Json(read(entries).await?).into_response())
}
