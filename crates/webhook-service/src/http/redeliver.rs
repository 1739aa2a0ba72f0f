//! `POST /v1/webhook-endpoints/{id}/redeliver`

use account_service::events::LoggedEvent;
use audit_log::Actor;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::{Scope, WebhookEndpointId};
use runtime::http::{
    bearer::Caller,
    database::{read, write},
    json_body::JsonBody,
    path_id::PathId,
    problem::{INVALID_FIELD, Problem},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ApiState, access, problems::endpoint_not_found};
use crate::store::{self, EndpointRow, Replay};

/// What to deliver again: one of the fields.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Redeliver {
    /// The `id` of an event: this event.
    #[schema(nullable = false)]
    event_id: Option<String>,
    /// The `id` of an event, or a `nextCursor`: all events after it.
    #[schema(nullable = false)]
    after: Option<String>,
}

/// Deliver events again
///
/// Also events that were delivered. They have the same ids. A disabled endpoint gets them when it
/// is enabled.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{endpoint}/redeliver", tag = "Webhooks",
    operation_id = "redeliverEvents",
    security(("token" = ["webhooks:write", "events:read"]),
        ("apiKey" = ["webhooks:write", "events:read"])),
    params(("endpoint" = Uuid, Path, description = "The id of the endpoint.")),
    request_body = Redeliver,
    responses(
        (status = ACCEPTED, description = "The events will be delivered."),
        (status = NOT_FOUND, description = "webhook-endpoint-not-found"),
    ))]
pub(super) async fn redeliver(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<WebhookEndpointId>,
    JsonBody(body): JsonBody<Redeliver>,
) -> Result<Response, Problem> {
    caller.require(Scope::WebhooksWrite)?;
    caller.require(Scope::EventsRead)?;
    let row = access::find(&api, &caller, id).await?;
    let (field, cursor) = match (&body.event_id, &body.after) {
        (Some(event), None) => ("eventId", event),
        (None, Some(after)) => ("after", after),
        _ => return Err(INVALID_FIELD.because("Send either eventId or after.").at("eventId")),
    };
    let is_own = |event: &LoggedEvent| is_of(&row, event);
    let found = if field == "after" {
        read(api.log.find_cursor(cursor, &caller.user_id, is_own)).await?
    } else {
        let found = read(api.log.find(cursor)).await?;
        found.filter(|event| event.as_ref().is_none_or(is_own))
    };
    let unknown = || INVALID_FIELD.because(format!("{field} must be the id of an event."));
    let event = found.ok_or_else(|| unknown().at(field))?;
    let remedy = "The events may be delivered again. Send the request again to be sure.";
    let replay = match (field, event) {
        ("eventId", Some(event)) => Replay::Event { id: cursor, position: event.position },
        ("eventId", None) => return Err(unknown().at(field)),
        (_, event) => {
            let position = event.map_or(0, |event| event.position);
            Replay::After { id: cursor, position }
        }
    };
    let replayed = store::replay(&api.pool, row.id, replay, Actor::new(&caller));
    if !write(remedy, replayed).await? {
        return Err(endpoint_not_found(id));
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Whether the endpoint may get this event.
pub(super) fn is_of(row: &EndpointRow, event: &LoggedEvent) -> bool {
    row.owner_id.as_deref().is_none_or(|owner| owner == event.owner.as_str())
}
