//! `GET /v1/webhook-endpoints/{id}/deliveries`: the events that a receiver has not taken.

use account_service::{
    events::{EventIds, LoggedEvent},
    store::find_events,
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use contract::{AccountId, Scope, WebhookEndpointId};
use runtime::http::{
    bearer::Caller,
    database::read,
    openapi::names,
    page::{self, INVALID_CURSOR},
    path_id::PathId,
    problem::Problem,
    timestamp,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{ApiState, access, redeliver::is_of};
use crate::store::{self, DeliveryRow};

/// Whether a failed delivery is tried again.
struct DeliveryStateSchema;

impl PartialSchema for DeliveryStateSchema {
    fn schema() -> RefOr<Schema> {
        names(
            "Whether the delivery is tried again.",
            [
                ("WAITING", "it is tried again."),
                ("GIVEN_UP", "its last attempt has failed. Ask for it with `eventId`."),
            ],
        )
    }
}

impl ToSchema for DeliveryStateSchema {}

/// An event that the receiver has not taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDelivery, examples(json!({
    "eventId": "UH6oSSXqzIlSeHUTXxuqTfYqM3yrnmE7",
    "type": "record.failed",
    "accountId": "01a20008-a367-77bd-a6bf-eaa3667171b3",
    "sequence": 7,
    "timestamp": "2026-11-21T21:34:55.848209Z",
    "state": "WAITING",
    "attempts": 2,
    "lastError": "the receiver answered 500",
    "lastAttemptAt": "2026-11-21T21:35:01.848209Z",
    "nextAttemptAt": "2026-11-21T21:40:03.848209Z",
})))]
struct DeliveryView {
    /// The `id` of the event.
    #[schema(min_length = 32, max_length = 32)]
    event_id: String,
    /// What happened: an `EventType`. Later releases may add types.
    #[schema(value_type = String)]
    r#type: &'static str,
    #[schema(value_type = Uuid)]
    account_id: AccountId,
    /// The number of the event among those of its account.
    #[schema(minimum = 1)]
    sequence: i64,
    /// When the event was written.
    #[serde(with = "timestamp")]
    timestamp: OffsetDateTime,
    #[schema(value_type = DeliveryStateSchema)]
    state: &'static str,
    /// Failed attempts. They count from 0 after a redelivery was requested or the endpoint was
    /// enabled, and from 8 at most after an outage.
    #[schema(minimum = 0)]
    attempts: i32,
    /// Why the last attempt failed; `null` before the first one.
    #[schema(required)]
    last_error: Option<String>,
    #[schema(required)]
    #[serde(with = "timestamp::option")]
    last_attempt_at: Option<OffsetDateTime>,
    /// The earliest time of the next attempt; `null` if it was given up. An endpoint that fails
    /// gets one event at a time.
    #[schema(required)]
    #[serde(with = "timestamp::option")]
    next_attempt_at: Option<OffsetDateTime>,
}

impl DeliveryView {
    fn new(ids: &EventIds, event: &LoggedEvent, row: DeliveryRow) -> Self {
        let was_tried = !row.last_error.is_empty();
        Self {
            event_id: ids.id(event),
            r#type: event.kind.as_str(),
            account_id: event.account,
            sequence: event.sequence,
            timestamp: event.created_at,
            state: if row.next_attempt_at.is_some() { "WAITING" } else { "GIVEN_UP" },
            attempts: row.attempts,
            last_attempt_at: was_tried.then_some(row.last_attempt_at),
            last_error: was_tried.then_some(row.last_error),
            next_attempt_at: row.next_attempt_at,
        }
    }
}

/// One page of deliveries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDeliveryPage)]
struct PageView {
    /// In the order of the events.
    items: Vec<DeliveryView>,
    /// The `after` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The parameters of the query. Each may be left out.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveriesQuery {
    /// The `eventId` of a delivery, or a `nextCursor`: only those of later events.
    #[param(min_length = 1)]
    after: Option<String>,
    /// Maximum items of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
}

/// List failed deliveries
///
/// The events that the receiver has not taken: those that wait for their next attempt, and those
/// that were given up within the last 30 days. A delivery that was taken is not listed. Events that
/// were not tried yet are not listed either: they wait in the log.
#[utoipa::path(get, path = "/v1/webhook-endpoints/{endpoint}/deliveries", tag = "Webhooks",
    operation_id = "listWebhookDeliveries",
    security(("token" = ["webhooks:write", "events:read"]),
        ("apiKey" = ["webhooks:write", "events:read"])),
    params(("endpoint" = Uuid, Path, description = "The id of the endpoint."), DeliveriesQuery),
    responses(
        (status = OK, body = PageView, description = "A page of deliveries."),
        (status = BAD_REQUEST, description = "invalid-cursor"),
        (status = NOT_FOUND, description = "webhook-endpoint-not-found"),
    ))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<WebhookEndpointId>,
    query: Result<Query<DeliveriesQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::WebhooksWrite)?;
    caller.require(Scope::EventsRead)?;
    let query = page::query(query, "after and limit")?;
    let limit = page::limit(query.limit.as_deref())?;
    let endpoint = access::find(&api, &caller, id).await?;
    let after = match query.after.as_deref() {
        None => 0,
        Some(cursor) => {
            let found = read(api.log.find(cursor)).await?;
            let event = found.flatten().filter(|event| is_of(&endpoint, event));
            let event = event.ok_or_else(|| {
                let detail = "after must be an eventId, or the nextCursor of the previous page.";
                INVALID_CURSOR.because(detail).at_parameter("after")
            })?;
            event.position
        }
    };
    let rows = store::list_deliveries(&api.pool, endpoint.id, after, limit.saturating_add(1));
    let mut rows = read(rows).await?;
    let has_more = rows.len() > usize::from(limit);
    rows.truncate(usize::from(limit));
    let positions: Vec<_> = rows.iter().map(|row| row.position).collect();
    let events = read(find_events(&api.pool, &positions)).await?;
    let ids = read(api.log.ids()).await?;
    let items: Vec<_> = rows
        .into_iter()
        .filter_map(|row| {
            // A promoted database may have given the position to another owner's event.
            let event = events.get(&row.position).filter(|event| is_of(&endpoint, event))?;
            Some(DeliveryView::new(ids, event, row))
        })
        .collect();
    let next_cursor = items.last().filter(|_| has_more).map(|last| last.event_id.clone());
    Ok(Json(PageView { items, next_cursor }).into_response())
}
