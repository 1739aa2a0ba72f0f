//! `GET /v1/reports/{id}/events`: server-sent events of a report's state and progress.
//!
//! Each event is the present state, not a difference, so a client that reconnects
//! misses nothing it needs. The stream ends with the report, and with its token.

use std::convert::Infallible;

use axum::{
    extract::State,
    http::HeaderMap,
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
    streams::{KEEP_ALIVE, TokenCheck},
};
use serde_json::json;

use super::{ApiState, problems::TOO_MANY_STREAMS, reports::visible};
use crate::{
    report::Report,
    store::Glance,
    watch::{Follower, NotFollowed},
};

/// What is sent next.
enum Next {
    /// The state at the time of the request.
    First(Glance, Progress),
    /// The next change.
    Change(Progress),
    End,
}

/// The changes of a report, while the token is valid.
struct Progress {
    follower: Follower,
    token: TokenCheck,
}

impl Progress {
    /// The next change; `None` at the end of the stream.
    async fn changed(&mut self) -> Option<Glance> {
        while self.token.is_allowed().await {
            tokio::select! {
                changed = self.follower.changed() => return changed,
                () = self.token.due() => {}
            }
        }
        None
    }
}

/// Follow a report
///
/// Server-sent events: `progress` for each change and `ended` at the end, after which the stream
/// ends. Each has the present state as JSON: `reportId`, `state`, `attempt` and `progress`. The
/// stream also ends when its token expires and when a replica stops: ask again, the first event is
/// the present state. At a replica, a customer has at most twenty streams and waits for reports, a
/// caller with `accounts:any` 250.
#[utoipa::path(get, path = "/v1/reports/{report}/events", tag = "Reports",
    operation_id = "followReport",
    security(("token" = ["reports:read"])),
    params(("report" = Uuid, Path, description = "The id of the report.")),
    responses(
        (status = OK, description = "The events.", body = String,
            content_type = "text/event-stream"),
        (status = NOT_FOUND, description = "report-not-found"),
        (status = TOO_MANY_REQUESTS, description = "too-many-streams"),
    ))]
pub(super) async fn events(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<ReportId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let follower = api.watch.follow(&caller, id).map_err(not_followed)?;
    let report = visible(&api, &caller, Scope::ReportsRead, id).await?;
    let token = TokenCheck::new(api.verifier.clone(), headers, &caller);
    let progress = Progress { follower, token };
    let events = stream::unfold(Next::First(glance(&report), progress), move |next| async move {
        let (glance, progress) = match next {
            Next::First(glance, progress) => (glance, progress),
            Next::Change(mut progress) => (progress.changed().await?, progress),
            Next::End => return None,
        };
        let next = if glance.state.is_end() { Next::End } else { Next::Change(progress) };
        Some((Ok::<_, Infallible>(event(id, &glance)), next))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

fn not_followed(reason: NotFollowed) -> Problem {
    match reason {
        NotFollowed::TooManyOfCaller(most) => {
            let detail =
                format!("A replica serves {most} streams and waits for reports of this caller.");
            TOO_MANY_STREAMS.because(detail).retry_after(10)
        }
        NotFollowed::TooManyReports => {
            let detail = "Too many reports are followed. Poll the report instead.";
            UNAVAILABLE.because(detail).retry_after(5)
        }
    }
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
