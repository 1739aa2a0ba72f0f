//! `/v1/events`: the event log, page by page or as a stream.

mod slots;
mod stream;
mod subscribers;
mod tail;
mod view;

pub use slots::StreamSlots;
pub use tail::EventTail;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, header::ACCEPT},
    response::{IntoResponse, Response},
};
use contract::{AccountId, Scope};
use runtime::http::{
    bearer::Caller,
    database::read,
    page::{self, INVALID_CURSOR},
    parameter::unknown,
    problem::{INVALID_FIELD, Problem},
    streams::TokenCheck,
};
use serde::Deserialize;
use utoipa::IntoParams;

use self::{
    stream::EventStream,
    view::{EventType, EventView, PageView},
};
use super::{ApiState, access, accounts};
use crate::events::{EventDetail, EventFilter, EventIds, EventKind, LoggedEvent, Source};

/// The id of an event, and its JSON as a page of events has it.
///
/// # Errors
/// None: the JSON has string keys only.
pub fn event_json(
    ids: &EventIds,
    event: &LoggedEvent,
    detail: &EventDetail,
) -> serde_json::Result<(String, Vec<u8>)> {
    let view = EventView::new(ids, event, detail);
    Ok((view.id().to_owned(), serde_json::to_vec(&view)?))
}

const LAST_EVENT_ID: &str = "last-event-id";

/// The parameters of the query. Each may be left out.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// The `id` of an event, or a `nextCursor`: only later events. Without it, from the first one.
    /// A stream prefers `Last-Event-ID`.
    #[param(min_length = 1)]
    after: Option<String>,
    /// Only events of this type.
    #[param(value_type = Option<EventType>)]
    r#type: Option<String>,
    /// Only events of this account.
    #[param(value_type = Option<Uuid>)]
    account_id: Option<String>,
    /// Maximum items of the page. A stream has no limit.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
}

/// List or follow events
///
/// What happened to the accounts that the caller may see and to their records, in the order of
/// the log. The events of an account have the numbers 1, 2, 3 … (`sequence`), without a gap and in
/// this order: a consumer that has read them knows that it has missed none. Read on with
/// `after=` and the last `nextCursor`, which can be kept for ever. The log begins with the release
/// 0.1.0: records that were settled before have no event.
///
/// With `Accept: text/event-stream`, and not `application/json` alike, the response is a stream of server-sent events: each has an
/// event's `id`, and the event as `data`, without a name. First the events after `Last-Event-ID`,
/// then new ones within a second. The stream ends when its token expires and when a replica stops:
/// connect again with the last id. Comments keep the connection open. An `id` without `data` is no
/// event: it says that the filter has left out all events up to there. Go on after it.
#[utoipa::path(get, path = "/v1/events", tag = "Events", operation_id = "listEvents",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header,
        description = "Of a stream: the `id` of the last event that the client has.")),
    security(("token" = ["events:read"]), ("apiKey" = ["events:read"])),
    responses(
        (status = OK, description = "A page of events, or a stream.",
            content((PageView = "application/json"), (String = "text/event-stream"))),
        (status = BAD_REQUEST, description = "invalid-cursor"),
        (status = NOT_FOUND, description = "account-not-found"),
        (status = TOO_MANY_REQUESTS, description = "too-many-streams"),
    ))]
pub(super) async fn read_events(
    State(api): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::EventsRead)?;
    let query = page::query(query, "after, type, accountId and limit")?;
    let limit = page::limit(query.limit.as_deref())?;
    let filter = query.filter(&api, &caller).await?;
    if wants_stream(&headers) {
        return follow(&api, &caller, filter, &query, headers).await;
    }
    let after = match &query.after {
        Some(cursor) => find_cursor(&api, &caller, cursor).await.map_err(at_after)?,
        None => None,
    };
    let position = after.as_ref().map_or(0, |event| event.position);
    let events = api.events.of_caller(&caller.user_id);
    let page = read(events.read(&filter, position, limit)).await?;
    let details = read(events.details(&page.events)).await?;
    let ids = read(api.events.ids()).await?;
    let views = page.events.iter().zip(&details);
    let items = views.map(|(event, detail)| EventView::new(ids, event, detail)).collect();
    let last = page.last.or(after);
    let next_cursor = last.map_or_else(|| ids.origin(), |last| cursor_behind(ids, &caller, &last));
    Ok(Json(PageView { items, next_cursor, has_more: page.has_more }).into_response())
}

impl EventsQuery {
    /// The events that the caller asks for, among those that it may see.
    async fn filter(&self, api: &ApiState, caller: &Caller) -> Result<EventFilter, Problem> {
        let kind = self.r#type.as_deref().map(|name| {
            let known = EventKind::ALL.map(EventKind::as_str);
            EventKind::parse(name).ok_or_else(|| unknown("type", &known))
        });
        let account = self.account_id.as_deref().map(|id| {
            let invalid = |error| INVALID_FIELD.because(format!("accountId {error}."));
            id.parse::<AccountId>().map_err(|error| invalid(error).at_parameter("accountId"))
        });
        let (kind, account) = (kind.transpose()?, account.transpose()?);
        let source = match (account, access::only_owner(caller)) {
            (Some(account), _) => {
                accounts::currency_of(api, caller, account).await?;
                Source::Account(account)
            }
            (None, Some(owner)) => Source::Owner(owner),
            (None, None) => Source::All,
        };
        Ok(EventFilter { source, kind })
    }
}

/// The response with server-sent events.
async fn follow(
    api: &ApiState,
    caller: &Caller,
    filter: EventFilter,
    query: &EventsQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let slot = api.stream_slots.take(caller)?;
    // A loss that is found later may be of events before the position.
    let losses = api.events.horizon().losses();
    // The news begin before the first page is read.
    let subscription = api.event_tail.subscribe(&filter);
    let last = headers.get(LAST_EVENT_ID).map(HeaderValue::to_str);
    // A browser sends an empty one before its first event.
    let last = last.map(|id| id.unwrap_or("-")).filter(|id| !id.is_empty());
    let after = match (last, &query.after) {
        (Some(last), _) => find_cursor(api, caller, last)
            .await
            .map_err(|problem| problem.at_header("Last-Event-ID"))?,
        (None, Some(after)) => find_cursor(api, caller, after).await.map_err(at_after)?,
        (None, None) => None,
    };
    let stream = EventStream {
        log: api.events.of_caller(&caller.user_id),
        losses,
        filter,
        position: after.map_or(0, |event| event.position),
        tail: api.event_tail.clone(),
        subscription,
        caller: caller.clone(),
        token: TokenCheck::new(api.verifier.clone(), headers, caller),
        draining: api.limits.draining.clone(),
        _slot: slot,
    };
    Ok(stream.into_response())
}

/// Whether the client prefers a stream. Generated clients accept every media type of the document
/// alike: they get a page.
fn wants_stream(headers: &HeaderMap) -> bool {
    let stream = quality(headers, "text/event-stream").filter(|quality| *quality > 0.0);
    stream
        .is_some_and(|stream| quality(headers, "application/json").is_none_or(|page| page < stream))
}

/// The quality that `Accept` gives to a media type by its name (RFC 9110, section 12.5.1).
fn quality(headers: &HeaderMap, media_type: &str) -> Option<f32> {
    let accepted = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next()?.eq_ignore_ascii_case(media_type);
        let quality = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().ok())?
        });
        is_named.then_some(quality.unwrap_or(1.0))
    })
}

/// The cursor behind an event that was read for this caller. The id of an event is for those who
/// may see it.
fn cursor_behind(ids: &EventIds, caller: &Caller, event: &LoggedEvent) -> String {
    if caller.may_use(event.owner.as_str()) {
        ids.id(event)
    } else {
        ids.cursor_of(&caller.user_id, event)
    }
}

fn at_after(problem: Problem) -> Problem {
    problem.at_parameter("after")
}

/// The event that a cursor of this caller names; `None` before the first one.
async fn find_cursor(
    api: &ApiState,
    caller: &Caller,
    cursor: &str,
) -> Result<Option<LoggedEvent>, Problem> {
    let may_see = |event: &LoggedEvent| caller.may_use(event.owner.as_str());
    let found = read(api.events.find_cursor(cursor, &caller.user_id, may_see)).await?;
    let invalid = || INVALID_CURSOR.because("It must be the id of an event, or a nextCursor.");
    found.ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_for_clients_that_prefer_it() {
        for (accept, expected) in [
            (None, false),
            (Some("text/event-stream"), true),
            (Some("TEXT/Event-Stream; charset=utf-8"), true),
            (Some("text/event-stream, */*"), true),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (Some("application/json, text/event-stream, application/problem+json"), false),
            (Some("text/event-stream,application/json"), false),
            (Some("text/event-stream, application/json;q=0.5"), true),
            (Some("text/event-stream;q=0.4, application/json; q=0.5"), false),
            (Some("text/event-stream;q=0"), false),
            (Some("text/event-stream;q=many"), true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(wants_stream(&headers), expected, "{accept:?}");
        }
    }
}
