//! The problems of this service's API. The `type` of a problem never changes.
//! `runtime::http::problem` has the problems of every service.

use contract::WebhookEndpointId;
use runtime::{
    http::problem::{INTERNAL, Problem},
    problem_types,
};

problem_types! {
    /// No webhook endpoint has this id, or it is another customer's.
    pub(super) const ENDPOINT_NOT_FOUND: (NOT_FOUND, "webhook-endpoint-not-found",
        "There is no such webhook endpoint.",
        "Compare the id with the `webhookEndpointId` in the list of endpoints.");
    /// Deliveries do not go to this URL: it has no `https`, a user or password, or a host or port
    /// that is not public.
    pub(super) const URL_NOT_ALLOWED: (UNPROCESSABLE_ENTITY, "webhook-url-not-allowed",
        "Webhooks are not delivered to this URL.",
        "Use an `https` URL whose host has a public address.");
    /// The owner has as many webhook endpoints as one owner may have.
    pub(super) const TOO_MANY_ENDPOINTS: (CONFLICT, "too-many-webhook-endpoints",
        "The owner has too many webhook endpoints.",
        "Delete one that is not used.");
    /// The secret was rotated several times within the time in which old secrets stay valid.
    pub(super) const TOO_MANY_SECRETS: (CONFLICT, "too-many-webhook-secrets",
        "The endpoint has too many valid secrets.",
        "Rotate again when the oldest one has expired.");
}

pub(super) fn endpoint_not_found(id: WebhookEndpointId) -> Problem {
    ENDPOINT_NOT_FOUND.because(format!("No webhook endpoint has the id {id}."))
}

/// The service can't make a key. Nothing was stored.
pub(super) fn no_key(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "a webhook secret was not created");
    INTERNAL.because("No secret could be created. Nothing was stored.")
}
