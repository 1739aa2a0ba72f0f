//! `PATCH /v1/webhook-endpoints/{id}`

use audit_log::Actor;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use contract::{Scope, WebhookEndpointId};
use runtime::http::{
    bearer::Caller,
    database::{after_write, write},
    json_body::JsonBody,
    path_id::PathId,
    problem::{INVALID_FIELD, Problem},
};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::{
    ApiState, access,
    create::{check_description, parse_types},
    endpoints::view,
    problems::endpoint_not_found,
    url::UrlRules,
    view::{EndpointView, StateSchema},
};
use crate::store::{self, EndpointChanges};

/// What to change. A field that is left out keeps its value.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChangeWebhookEndpoint {
    #[schema(max_length = 2048, nullable = false)]
    pub(super) url: Option<String>,
    /// `null` removes it.
    #[schema(max_length = 500, value_type = Option<String>)]
    #[serde(default, deserialize_with = "given")]
    pub(super) description: Option<Option<String>>,
    /// `null` for all types.
    #[schema(min_items = 1, value_type = Option<Vec<String>>)]
    #[serde(default, deserialize_with = "given")]
    types: Option<Option<Vec<String>>>,
    /// An endpoint that is enabled again gets the events that it has missed.
    #[schema(value_type = Option<StateSchema>, nullable = false)]
    state: Option<String>,
}

/// The numbers of the types, and whether the endpoint is enabled, as far as they change.
type Changed = (Option<Option<Vec<i16>>>, Option<bool>);

impl ChangeWebhookEndpoint {
    /// Checks all parts.
    ///
    /// # Errors
    /// `invalid-field` or `webhook-url-not-allowed`
    pub(super) fn check(&self, rules: UrlRules<'_>) -> Result<Changed, Problem> {
        if let Some(url) = &self.url {
            rules.check(url)?;
        }
        check_description(self.description.as_ref().and_then(|text| text.as_deref()))?;
        let types = self.types.as_ref().map(|names| parse_types(names.as_deref())).transpose()?;
        let enabled = self.state.as_deref().map(|state| match state {
            "ENABLED" => Ok(true),
            "DISABLED" => Ok(false),
            _ => Err(INVALID_FIELD.because("state must be ENABLED or DISABLED.").at("state")),
        });
        Ok((types, enabled.transpose()?))
    }
}

/// Tells `null` from a field that is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Change a webhook endpoint
///
/// Events that are under way may be delivered twice.
#[utoipa::path(patch, path = "/v1/webhook-endpoints/{endpoint}", tag = "Webhooks",
    operation_id = "changeWebhookEndpoint",
    security(("token" = ["webhooks:write", "events:read"]),
        ("apiKey" = ["webhooks:write", "events:read"])),
    params(("endpoint" = Uuid, Path, description = "The id of the endpoint.")),
    request_body = ChangeWebhookEndpoint,
    responses(
        (status = OK, body = EndpointView, description = "The changed endpoint."),
        (status = NOT_FOUND, description = "webhook-endpoint-not-found"),
        (status = UNPROCESSABLE_ENTITY, description = "webhook-url-not-allowed"),
    ))]
pub(super) async fn change(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<WebhookEndpointId>,
    JsonBody(body): JsonBody<ChangeWebhookEndpoint>,
) -> Result<Response, Problem> {
    caller.require(Scope::WebhooksWrite)?;
    // As for a new endpoint: it receives what the caller may read.
    caller.require(Scope::EventsRead)?;
    let (types, enabled) = body.check(api.url_rules())?;
    access::find(&api, &caller, id).await?;
    let changes = EndpointChanges {
        url: body.url.as_deref(),
        description: body.description.as_ref().map(|text| text.as_deref()),
        types: types.as_ref().map(|types| types.as_deref()),
        enabled,
    };
    let remedy = "The endpoint may be changed. Send the request again.";
    let changed = store::update_endpoint(&api.pool, id.as_uuid(), &changes, Actor::new(&caller));
    let row = write(remedy, changed).await?.ok_or_else(|| endpoint_not_found(id))?;
    let view: EndpointView = after_write(remedy, view(&api, row)).await?;
    Ok(Json(view).into_response())
}
