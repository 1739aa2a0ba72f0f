//! Endpoints in the API.

use account_service::events::EventKind;
use contract::WebhookEndpointId;
use runtime::http::{openapi::names, timestamp};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    signature::{Algorithm, show_public_key},
    store::{CurrentKey, EndpointRow},
};

/// How deliveries are signed.
pub(super) struct SignatureSchema;

impl PartialSchema for SignatureSchema {
    fn schema() -> RefOr<Schema> {
        names(
            "How deliveries are signed, by the standard-webhooks specification.",
            [
                ("v1", "HMAC-SHA256 with the `secret`."),
                ("v1a", "Ed25519. The receiver verifies with the `publicKey`."),
            ],
        )
    }
}

impl ToSchema for SignatureSchema {}

/// Whether an endpoint gets events.
pub(super) struct StateSchema;

impl PartialSchema for StateSchema {
    fn schema() -> RefOr<Schema> {
        names(
            "Whether events are delivered. Events wait for an endpoint that is disabled.",
            [("ENABLED", ""), ("DISABLED", "See `disabledBecause`.")],
        )
    }
}

impl ToSchema for StateSchema {}

/// Why an endpoint is disabled.
pub(super) struct DisabledSchema;

impl PartialSchema for DisabledSchema {
    fn schema() -> RefOr<Schema> {
        names(
            "Why the endpoint is disabled.",
            [
                ("request", "by a request."),
                ("gone", "the receiver answered 410."),
                ("failing", "no delivery was taken for days."),
            ],
        )
    }
}

impl ToSchema for DisabledSchema {}

/// A webhook endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookEndpoint, examples(json!({
    "webhookEndpointId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
    "url": "https://example.com/hooks",
    "description": null,
    "types": ["record.failed"],
    "ownerId": "ann",
    "signature": "v1",
    "state": "ENABLED",
    "disabledBecause": null,
    "failures": 0,
    "failingSince": null,
    "lastError": null,
    "lastFailedAt": null,
    "lastDeliveredAt": "2026-11-21T21:34:55.848209Z",
    "nextAttemptAt": null,
    "createdBy": "ann",
    "createdAt": "2026-11-21T21:34:55.848209Z",
    "updatedAt": "2026-11-21T21:34:55.848209Z",
})))]
pub(super) struct EndpointView {
    #[schema(value_type = Uuid)]
    webhook_endpoint_id: WebhookEndpointId,
    url: String,
    #[schema(required)]
    description: Option<String>,
    /// The types of events that are delivered; `null` for all, those of later releases included.
    #[schema(required)]
    types: Option<Vec<&'static str>>,
    /// The owner of the accounts whose events are delivered; `null` for all accounts.
    #[schema(required)]
    owner_id: Option<String>,
    #[schema(value_type = SignatureSchema)]
    signature: &'static str,
    /// Signs the deliveries. Only the response that created it has it.
    #[schema(pattern = "^whsec_[A-Za-z0-9+/]{43}=$", nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Verifies the deliveries, of an endpoint with `v1a`.
    #[schema(pattern = "^whpk_[A-Za-z0-9+/]{43}=$", nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[schema(value_type = StateSchema)]
    state: &'static str,
    #[schema(value_type = Option<DisabledSchema>, required)]
    disabled_because: Option<String>,
    /// Failed attempts in a row. From five on, only one event at a time is tried, as a probe.
    #[schema(minimum = 0)]
    failures: i32,
    /// The first of these failures.
    #[schema(required)]
    #[serde(with = "timestamp::option")]
    failing_since: Option<OffsetDateTime>,
    /// Why an attempt failed last.
    #[schema(required)]
    last_error: Option<String>,
    /// When that was.
    #[schema(required)]
    #[serde(with = "timestamp::option")]
    last_failed_at: Option<OffsetDateTime>,
    #[schema(required)]
    #[serde(with = "timestamp::option")]
    last_delivered_at: Option<OffsetDateTime>,
    /// When a delivery is due; in the past if it is under way. `null` if nothing waits, and for a
    /// disabled endpoint.
    #[schema(required)]
    #[serde(with = "timestamp::option")]
    next_attempt_at: Option<OffsetDateTime>,
    created_by: String,
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
    #[serde(with = "timestamp")]
    updated_at: OffsetDateTime,
}

impl EndpointView {
    /// The endpoint with its current key, if it is known.
    pub(super) fn new(row: EndpointRow, key: Option<&CurrentKey>) -> Self {
        let algorithm = key.and_then(|key| Algorithm::from_code(key.algorithm));
        let public_key = key.and_then(|key| key.public_key.as_deref());
        let types = row.types.map(|codes| {
            codes.into_iter().filter_map(EventKind::from_code).map(EventKind::as_str).collect()
        });
        Self {
            webhook_endpoint_id: WebhookEndpointId::from_uuid(row.id),
            url: row.url,
            description: row.description,
            types,
            owner_id: row.owner_id,
            signature: algorithm.unwrap_or(Algorithm::Hmac).as_str(),
            secret: None,
            public_key: public_key.map(show_public_key),
            state: if row.enabled { "ENABLED" } else { "DISABLED" },
            disabled_because: row.disabled_because,
            failures: row.failures,
            failing_since: row.failing_since,
            last_error: row.last_error,
            last_failed_at: row.last_failed_at,
            last_delivered_at: row.last_delivered_at,
            next_attempt_at: row.next_attempt_at,
            created_by: row.created_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }

    /// The same, with the secret that the receiver gets once.
    pub(super) fn with_secret(self, secret: Option<String>) -> Self {
        Self { secret, ..self }
    }

    pub(super) fn path(&self) -> String {
        format!("/v1/webhook-endpoints/{}", self.webhook_endpoint_id)
    }
}

/// One page of endpoints.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookEndpointPage)]
pub(super) struct PageView {
    /// Newest first.
    pub(super) items: Vec<EndpointView>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}
