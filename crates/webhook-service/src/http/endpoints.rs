//! Lists, shows and deletes endpoints.

use audit_log::Actor;
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::{Scope, WebhookEndpointId};
use runtime::http::{
    bearer::Caller,
    database::{read, write},
    page::{self, Page},
    path_id::PathId,
    problem::Problem,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Api, ApiState, access,
    problems::endpoint_not_found,
    view::{EndpointView, PageView},
};
use crate::store::{self, EndpointRow};

/// The endpoint as it is shown, without its secret.
pub(super) async fn view(api: &Api, row: EndpointRow) -> Result<EndpointView, Problem> {
    let keys = read(store::find_current_keys(&api.pool, &[row.id])).await?;
    Ok(EndpointView::new(row, keys.first()))
}

/// The parameters of the query. Each may be left out.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EndpointsQuery {
    /// Maximum items of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `nextCursor` of the previous page.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// List webhook endpoints
///
/// Newest first. Callers without `accounts:any` see those for their own accounts.
#[utoipa::path(get, path = "/v1/webhook-endpoints", tag = "Webhooks",
    operation_id = "listWebhookEndpoints",
    params(EndpointsQuery),
    security(("token" = ["webhooks:write"]), ("apiKey" = ["webhooks:write"])),
    responses((status = OK, body = PageView, description = "A page of endpoints.")))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<EndpointsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::WebhooksWrite)?;
    let query = page::query(query, "limit and cursor")?;
    let owner = (!caller.scopes.contains(Scope::AccountsAny)).then(|| caller.user_id.as_str());
    let list = [Some("webhook-endpoints"), owner];
    let page = Page::parse(query.limit.as_deref(), query.cursor.as_deref(), &list)?;
    let rows = store::list_endpoints(&api.pool, owner, page.before, page.to_read());
    let mut rows = read(rows).await?;
    let next_cursor = page.cut(&mut rows, |row| row.id);
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let keys = read(store::find_current_keys(&api.pool, &ids)).await?;
    let items = rows.into_iter().map(|row| {
        let key = keys.iter().find(|key| key.endpoint_id == row.id);
        EndpointView::new(row, key)
    });
    Ok(Json(PageView { items: items.collect(), next_cursor }).into_response())
}

/// Show a webhook endpoint
#[utoipa::path(get, path = "/v1/webhook-endpoints/{endpoint}", tag = "Webhooks",
    operation_id = "getWebhookEndpoint",
    security(("token" = ["webhooks:write"]), ("apiKey" = ["webhooks:write"])),
    params(("endpoint" = Uuid, Path, description = "The id of the endpoint.")),
    responses(
        (status = OK, body = EndpointView, description = "The endpoint, without its secret."),
        (status = NOT_FOUND, description = "webhook-endpoint-not-found"),
    ))]
pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<WebhookEndpointId>,
) -> Result<Response, Problem> {
    caller.require(Scope::WebhooksWrite)?;
    let row = access::find(&api, &caller, id).await?;
    Ok(Json(view(&api, row).await?).into_response())
}

/// Delete a webhook endpoint
///
/// A delivery that is under way may still arrive.
#[utoipa::path(delete, path = "/v1/webhook-endpoints/{endpoint}", tag = "Webhooks",
    operation_id = "deleteWebhookEndpoint",
    security(("token" = ["webhooks:write"]), ("apiKey" = ["webhooks:write"])),
    params(("endpoint" = Uuid, Path, description = "The id of the endpoint.")),
    responses(
        (status = NO_CONTENT, description = "The endpoint is deleted."),
        (status = NOT_FOUND, description = "webhook-endpoint-not-found"),
    ))]
pub(super) async fn delete(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<WebhookEndpointId>,
) -> Result<Response, Problem> {
    caller.require(Scope::WebhooksWrite)?;
    access::find(&api, &caller, id).await?;
    let remedy = "The endpoint may be deleted. Send the request again; 404 means that it is.";
    let deleted = store::delete_endpoint(&api.pool, id.as_uuid(), Actor::new(&caller));
    if !write(remedy, deleted).await? {
        return Err(endpoint_not_found(id));
    }
    tracing::info!(webhook_endpoint = %id, "a webhook endpoint was deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}
