//! The log as a list of the API.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Query, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use contract::{ApiKeyId, AuditEntryId};
use runtime::{
    http::{
        database::read,
        page::{self, Page},
        parameter,
        problem::{INVALID_FIELD, Problem},
        timestamp,
    },
    postgres::{CallError, PgPool},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::list::{AuditFilter, AuditRow, list};

/// The names of the parameters of the query, for a sentence.
pub const PARAMETERS: &str = "actor, action, resource, limit and cursor";
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
    /// `.secret-rotated`, `.redelivery-requested`, `.deleted` or `.disabled` (by the service). In
    /// the log of reports `report.created`, `.joined` (a request with `unique` was answered with
    /// this open report), `.retried` or `.cancelled`. Later releases may add actions.
    action: String,
    /// The path of the resource.
    resource: String,
    /// What the action set: of an account `currency` and `ownerId`, of a key `scopes` and
    /// `userId`. Of a webhook endpoint: `ownerId` (unless it is for all accounts), the `origin` of
    /// its URL, the `changed` fields and the new `state`, the `eventId` or `after` of a
    /// redelivery, and `because` it was disabled. Of a report: its `kind`, and the `accountId` and
    /// `ownerId` of a statement; of a retry the new report's `reportId`; of `.joined` and
    /// `.cancelled` whose report it is, `requestedBy`. Later releases may add members.
    details: BTreeMap<String, String>,
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
}

impl TryFrom<AuditRow> for AuditEntryView {
    type Error = sqlx::Error;

    fn try_from(row: AuditRow) -> sqlx::Result<Self> {
        let invalid = |error: serde_json::Error| sqlx::Error::Decode(error.into());
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
pub struct AuditQuery {
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
    /// The filter. `actions` are those of the log.
    ///
    /// # Errors
    /// `invalid-field`
    pub fn filter(&self, actions: &[&'static str]) -> Result<AuditFilter, Problem> {
        let action = self.action.as_deref().map(|name| {
            let action = actions.iter().find(|action| **action == name);
            action.copied().ok_or_else(|| parameter::unknown("action", actions))
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
            actor: self.actor.clone().map(|actor| parameter::user("actor", actor)).transpose()?,
            action: action.transpose()?,
            resource: resource.transpose()?,
        })
    }
}

/// One page of the audit log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditPage {
    /// Newest first.
    items: Vec<AuditEntryView>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A page of the log that is named `log`, which has these actions.
///
/// # Errors
/// `invalid-query`, `invalid-field`, `invalid-cursor`, or those of the database.
pub async fn respond<E: CallError + From<sqlx::Error>>(
    pool: &PgPool,
    log: &str,
    actions: &[&'static str],
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let query = page::query(query, PARAMETERS)?;
    let filter = query.filter(actions)?;
    let items =
        [Some(log), query.actor.as_deref(), query.action.as_deref(), query.resource.as_deref()];
    let page = Page::parse(query.limit.as_deref(), query.cursor.as_deref(), &items)?;
    let entries = async {
        let mut rows = list(pool, &filter, page.before, page.to_read()).await?;
        let next_cursor = page.cut(&mut rows, |row| row.id);
        let items = rows.into_iter().map(AuditEntryView::try_from).collect::<Result<_, _>>()?;
        Ok::<_, E>(AuditPage { items, next_cursor })
    };
    Ok(Json(read(entries).await?).into_response())
}
