//! The requests of the webhook-service to receivers, as the `webhooks` of OpenAPI 3.1. No handler
//! of this system answers them, so they are written here.

use serde_json::{Value, json};

const DESCRIPTION: &str = "The webhook-service posts each event to the `url` of every endpoint \
    that takes its type, signed by the standard-webhooks specification. Verify the signature and \
    the timestamp, store the event, and answer within 20 s. Each event is delivered at least once, \
    and not always in order: ignore an `id` that you have.";

pub(crate) fn webhooks() -> Value {
    let header = |name: &str, description: &str| {
        json!({
            "in": "header",
            "name": name,
            "required": true,
            "description": description,
            "schema": { "type": "string" },
        })
    };
    json!({ "event": { "post": {
        "operationId": "receiveEvent",
        "summary": "Receive an event",
        "description": DESCRIPTION,
        "tags": ["Webhooks"],
        "security": [],
        "parameters": [
            header("webhook-id", "The `id` of the event, the same in each attempt."),
            header("webhook-timestamp", "When it was sent, in seconds since 1970."),
            header(
                "webhook-signature",
                "Signatures over `{webhook-id}.{webhook-timestamp}.{body}`, separated by blanks: \
                 `v1,` or `v1a,` and base64. One by each valid secret.",
            ),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/Event" },
            } },
        },
        "responses": {
            "2XX": { "description": "The event is delivered." },
            "410": { "description": "The endpoint is disabled. Enabled again, it gets the events \
                                     that it has missed." },
            "default": { "description": "The event is tried again, ten times over three days. \
                                         After 429, 502, 503 and 504, the pause is at least \
                                         `Retry-After`." },
        },
    } } })
}
