//! `GET /v1/reports/{id}/events`: server-sent events of a report's state and progress.
//!
//! Each event is the present state, not a difference, so a client that reconnects
//! misses nothing it needs. The stream ends with the report, and with its token.

use std::{convert::Infallible, time::Duration};

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
    bearer::{Caller, TokenVerifier},
    path_id::PathId,
    problem::{Problem, UNAUTHENTICATED, UNAVAILABLE},
};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{ApiState, access, problems::TOO_MANY_STREAMS, reports::visible};
use crate::{
    report::Report,
    store::Glance,
    watch::{Follower, NotFollowed, Watch},
};

/// The interval of comments that keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Interval at which the token is verified again: it may have expired.
const CHECK_EVERY: Duration = Duration::from_secs(5);

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
    verifier: TokenVerifier,
    /// Of the request, with its token.
    headers: HeaderMap,
    next_check: Instant,
}

impl Progress {
    /// The next change; `None` at the end of the stream.
    async fn changed(&mut self) -> Option<Glance> {
        while self.is_allowed().await {
            tokio::select! {
                changed = self.follower.changed() => return changed,
                () = sleep_until(self.next_check) => {}
            }
        }
        None
    }

    /// Whether the token is still valid. A failure to verify it is no reason to end.
    async fn is_allowed(&mut self) -> bool {
        if Instant::now() < self.next_check {
            return true;
        }
        self.next_check = Instant::now() + CHECK_EVERY;
        let caller = self.verifier.caller_of(&self.headers).await;
        !caller.is_err_and(|problem| problem.is(UNAUTHENTICATED))
    }
}

/// Follow a report
///
/// Server-sent events: `progress` for each change and `ended` at the end, after which the stream
/// ends. Each has the present state as JSON: `reportId`, `state`, `attempt` and `progress`. The
/// stream also ends when its token expires and when a replica stops: ask again, the first event is
/// the present state. A customer has at most twenty streams and waits for reports at a replica.
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
    let follower = api.watch.follow(access::only_owner(&caller), id).map_err(not_followed)?;
    let report = visible(&api, &caller, Scope::ReportsRead, id).await?;
    let next_check = Instant::now() + CHECK_EVERY;
    let progress = Progress { follower, verifier: api.verifier.clone(), headers, next_check };
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
        NotFollowed::TooManyOfCustomer => {
            let most = Watch::MAX_OF_CUSTOMER;
            let detail = format!("A customer may have {most} streams and waits for reports.");
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
