//! `GET /v1/reports/{id}/events`: server-sent events of a report's state and progress.
//!
//! Each event is the present state, not a difference, so a client that reconnects
//! misses nothing it needs. The stream ends with the report.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use contract::{ReportId, Scope};
use futures::stream;
use runtime::http::{
    bearer::Caller,
    path_id::PathId,
    problem::{Problem, UNAVAILABLE},
};
use serde_json::json;

use super::{ApiState, reports::visible};
use crate::{report::Report, store::Glance, watch::Follower};

/// The interval of comments that keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is sent next.
enum Next {
    /// The state at the time of the request.
    First(Glance, Follower),
    /// The next change.
    Change(Follower),
    End,
}

/// Follow a report
///
/// Server-sent events: `progress` for each change and `ended` at the end, after which the stream
/// ends. Each has the present state as JSON: `reportId`, `state`, `attempt` and `progress`. After a
/// lost connection, ask again: the first event is the present state.
#[utoipa::path(get, path = "/v1/reports/{report}/events", tag = "Reports",
    operation_id = "followReport",
    security(("token" = ["reports:read"])),
    params(("report" = Uuid, Path, description = "The id of the report.")),
    responses(
        (status = OK, description = "The events.", body = String,
            content_type = "text/event-stream"),
        (status = NOT_FOUND, description = "report-not-found"),
    ))]
pub(super) async fn events(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<ReportId>,
) -> Result<Response, Problem> {
    let follower = api.watch.follow(id).ok_or_else(|| {
        UNAVAILABLE
            .because("Too many reports are followed. Poll the report instead.")
            .retry_after(5)
    })?;
    let report = visible(&api, &caller, Scope::ReportsRead, id).await?;
    let events = stream::unfold(Next::First(glance(&report), follower), move |next| async move {
        let (glance, follower) = match next {
            Next::First(glance, follower) => (glance, follower),
            Next::Change(mut follower) => (follower.changed().await?, follower),
            Next::End => return None,
        };
        let next = if glance.state.is_end() { Next::End } else { Next::Change(follower) };
        Some((Ok::<_, Infallible>(event(id, &glance)), next))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

fn glance(report: &Report) -> Glance {
    Glance {
        state: report.state,
        attempt: report.attempt,
        step: report.step.clone(),
        done: report.done,
        total: report.total,
    }
}

fn event(id: ReportId, glance: &Glance) -> Event {
    let progress = glance.step.as_ref().map(|step| {
        json!({ "step": step, "done": glance.done.unwrap_or_default(), "total": glance.total })
    });
    let data = json!({
        "reportId": id,
        "state": glance.state.as_str(),
        "attempt": glance.attempt,
        "progress": progress,
    });
    let name = if glance.state.is_end() { "ended" } else { "progress" };
    Event::default().event(name).data(data.to_string())
}
