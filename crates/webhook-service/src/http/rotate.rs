//! `POST /v1/webhook-endpoints/{id}/rotate-secret`

use audit_log::Actor;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use contract::{Scope, WebhookEndpointId};
use runtime::http::{
    bearer::Caller,
    database::{read, write},
    path_id::PathId,
    problem::Problem,
};

use super::{
    ApiState, access,
    new_key::NewKey,
    problems::{TOO_MANY_SECRETS, endpoint_not_found, no_key},
    view::EndpointView,
};
use crate::{signature::Algorithm, store};

/// Rotate the secret of a webhook endpoint
///
/// The response has the new `secret`, once. For a day, deliveries have a signature with the old
/// secret as well. If the response was lost, rotate again.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{endpoint}/rotate-secret", tag = "Webhooks",
    operation_id = "rotateWebhookSecret",
    security(("token" = ["webhooks:write", "events:read"]),
        ("apiKey" = ["webhooks:write", "events:read"])),
    params(("endpoint" = Uuid, Path, description = "The id of the endpoint.")),
    responses(
        (status = OK, body = EndpointView, description = "The endpoint with its new secret."),
        (status = NOT_FOUND, description = "webhook-endpoint-not-found"),
        (status = CONFLICT, description = "too-many-webhook-secrets"),
    ))]
pub(super) async fn rotate(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<WebhookEndpointId>,
) -> Result<Response, Problem> {
    caller.require(Scope::WebhooksWrite)?;
    caller.require(Scope::EventsRead)?;
    let row = access::find(&api, &caller, id).await?;
    let keys = read(store::find_current_keys(&api.pool, &[row.id])).await?;
    let algorithm = keys.first().and_then(|key| Algorithm::from_code(key.algorithm));
    let algorithm = algorithm.ok_or_else(|| no_key("the endpoint has no current key"))?;
    let new = NewKey::generate(&api.sealing, id, algorithm)?;
    let remedy = "The secret may be rotated, and the new one is lost. Send the request again: \
                  the old one stays valid for its time.";
    let (secret, overlap) = (new.to_store(), api.secret_overlap.as_secs_f64());
    let rotated = store::rotate_secret(&api.pool, row.id, &secret, overlap, Actor::new(&caller));
    match write(remedy, rotated).await? {
        None => Err(endpoint_not_found(id)),
        Some(false) => {
            Err(TOO_MANY_SECRETS.because("The secret was rotated several times lately."))
        }
        Some(true) => {
            tracing::info!(webhook_endpoint = %id, "the secret of a webhook endpoint was rotated");
            let view = EndpointView::new(row, Some(&new.shown)).with_secret(new.secret);
            Ok(Json(view).into_response())
        }
    }
}
