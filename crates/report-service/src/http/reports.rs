//! `/v1/reports`: lists, shows and cancels reports.

use std::time::Duration;

use ::audit_log::Actor;
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use contract::{ReportId, Scope};
use report_document::Kind;
use runtime::http::{
    bearer::Caller,
    database::{after_write, read, write},
    openapi::PreferHeader,
    page::{self, Page},
    parameter::unknown,
    path_id::PathId,
    prefer,
    problem::{INVALID_FIELD, Problem},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, ApiState, access,
    problems::{STATE_CONFLICT, report_not_found},
    schemas,
    view::ReportView,
};
use crate::{
    job::State as ReportState,
    report::Report,
    store::{self, Cancellation, Filter},
    telemetry,
};

/// The report, if the caller has this scope and may see the report.
pub(super) async fn visible(
    api: &Api,
    caller: &Caller,
    scope: Scope,
    id: ReportId,
) -> Result<Report, Problem> {
    caller.require(scope)?;
    let report = read(store::find(&api.pool, id)).await?.ok_or_else(|| report_not_found(id))?;
    access::check_report(caller, &report)?;
    Ok(report)
}

/// The view of a report with its attempts and files, for this caller.
pub(super) async fn view(
    api: &Api,
    caller: &Caller,
    report: Report,
) -> Result<ReportView, Problem> {
    let attempts = read(store::attempts_of(&api.pool, report.id)).await?;
    let artifacts = match report.state {
        ReportState::Succeeded => read(store::artifacts_of(&api.pool, report.id)).await?,
        _ => Vec::new(),
    };
    let view = ReportView::new(report, Some(attempts), artifacts);
    Ok(view.for_caller(access::sees_internals(caller)))
}

/// The response to a request for a report: 200 if the client waited and the report has
/// ended, otherwise 202.
pub(super) async fn respond(
    api: &Api,
    caller: &Caller,
    report: Report,
    headers: &HeaderMap,
    replayed: bool,
) -> Result<Response, Problem> {
    let patience = prefer::wait(headers, api.longest_wait);
    let (report, patience) = wait(api, caller, report, patience).await?;
    let ended = report.state.is_end() && patience.is_some();
    let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
    let location = format!("/v1/reports/{}", report.id);
    let view = Json(view(api, caller, report).await?);
    let mut response = (status, [(LOCATION, location)], view).into_response();
    if replayed {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert("idempotent-replayed", yes);
    }
    set_preference_applied(&mut response, patience);
    Ok(response)
}

/// Waits for the end of a report. Gives it in its present state, and the applied wait: none if the
/// caller, or this replica, has too many followers.
async fn wait(
    api: &Api,
    caller: &Caller,
    report: Report,
    patience: Option<Duration>,
) -> Result<(Report, Option<Duration>), Problem> {
    let Some(limit) = patience.filter(|_| !report.state.is_end()) else {
        return Ok((report, patience));
    };
    let Ok(mut follower) = api.watch.follow(caller, report.id) else {
        return Ok((report, None));
    };
    let _ = tokio::time::timeout(limit, follower.ended()).await;
    let present = read(store::find(&api.pool, report.id)).await?;
    Ok((present.unwrap_or(report), patience))
}

fn set_preference_applied(response: &mut Response, patience: Option<Duration>) {
    let applied = patience.map(|patience| format!("wait={}", patience.as_secs()));
    if let Some(value) = applied.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert("preference-applied", value);
    }
}

/// Show a report
#[utoipa::path(get, path = "/v1/reports/{report}", tag = "Reports", operation_id = "getReport",
    security(("token" = ["reports:read"])),
    params(("report" = Uuid, Path, description = "The id of the report."), PreferHeader),
    responses(
        (status = OK, body = ReportView, description = "The report in its present state."),
        (status = NOT_FOUND, description = "report-not-found"),
    ))]
pub(super) async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<ReportId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let report = visible(&api, &caller, Scope::ReportsRead, id).await?;
    let patience = prefer::wait(&headers, api.longest_wait);
    let (report, patience) = wait(&api, &caller, report, patience).await?;
    let mut response = Json(view(&api, &caller, report).await?).into_response();
    set_preference_applied(&mut response, patience);
    Ok(response)
}

/// Cancel a report
///
/// A running attempt ends soon after. Cancelling it again is allowed until it has ended. A customer
/// cancels own requests only, not a teller's statement of the customer's account.
#[utoipa::path(post, path = "/v1/reports/{report}/cancel", tag = "Reports",
    operation_id = "cancelReport",
    security(("token" = ["reports:write"])),
    params(("report" = Uuid, Path, description = "The id of the report.")),
    responses(
        (status = ACCEPTED, body = ReportView, description = "The report is cancelled, or will be.",
            headers(("Location" = String, description = "The path of the report."))),
        (status = NOT_FOUND, description = "report-not-found"),
        (status = CONFLICT, description = "report-state-conflict"),
    ))]
pub(super) async fn cancel(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<ReportId>,
) -> Result<Response, Problem> {
    let report = visible(&api, &caller, Scope::ReportsWrite, id).await?;
    access::check_cancel(&caller, &report)?;
    let remedy = "The database did not answer in time. The report may be cancelled: ask for its \
                  state, or cancel it again.";
    match write(remedy, store::cancel(&api.pool, id, Actor::new(&caller))).await? {
        Cancellation::Missing => return Err(report_not_found(id)),
        Cancellation::Ended(state) => {
            return Err(STATE_CONFLICT.because(format!("The report is {state}: it has ended.")));
        }
        Cancellation::Cancelled => {
            telemetry::ended(report.parameters.kind().as_str(), ReportState::Cancelled);
        }
        Cancellation::Requested => {}
    }
    let cancelled = async {
        let report = visible(&api, &caller, Scope::ReportsWrite, id).await?;
        view(&api, &caller, report).await
    };
    let view = after_write(remedy, cancelled).await?;
    let (location, view) = (format!("/v1/reports/{id}"), Json(view));
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], view).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only reports of this kind.
    #[param(value_type = Option<schemas::ReportKind>)]
    kind: Option<String>,
    /// Only reports in this state.
    #[param(value_type = Option<schemas::ReportState>)]
    state: Option<String>,
    /// Maximum items of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// `nextCursor` of the previous page.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// One page of reports, without their attempts.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportPage)]
struct PageView {
    items: Vec<ReportView>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List reports
///
/// Newest first. A customer sees the statements of their own accounts, whoever asked for them.
#[utoipa::path(get, path = "/v1/reports", tag = "Reports", operation_id = "listReports",
    security(("token" = ["reports:read"])),
    params(ListQuery),
    responses((status = OK, body = PageView, description = "A page of reports.")))]
pub(super) async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let query = page::query(query, "kind, state, limit and cursor")?;
    caller.require(Scope::ReportsRead)?;
    let kind = query.kind.as_deref().map(parse_kind).transpose();
    let filter = Filter {
        kind: kind.map_err(|problem| problem.at_parameter("kind"))?,
        state: query.state.as_deref().map(parse_state).transpose()?,
        owner: access::only_owner(&caller).map(ToString::to_string),
    };
    let list =
        [Some("reports"), query.kind.as_deref(), query.state.as_deref(), filter.owner.as_deref()];
    let page = Page::parse(query.limit.as_deref(), query.cursor.as_deref(), &list)?;
    let mut reports = read(store::list(&api.pool, &filter, page.before, page.to_read())).await?;
    let next_cursor = page.cut(&mut reports, |report| report.id.as_uuid());
    let mut items = Vec::with_capacity(reports.len());
    let ids: Vec<_> = reports.iter().map(|report| report.id).collect();
    let mut artifacts = read(store::artifacts_of_all(&api.pool, &ids)).await?;
    for report in reports {
        let files = artifacts.remove(&report.id).unwrap_or_default();
        let view = ReportView::new(report, None, files);
        items.push(view.for_caller(access::sees_internals(&caller)));
    }
    Ok(Json(PageView { items, next_cursor }).into_response())
}

/// A kind by its name.
///
/// # Errors
/// `invalid-field`, without its place.
pub(super) fn parse_kind(name: &str) -> Result<Kind, Problem> {
    Kind::parse(name).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::as_str).join(", ");
        INVALID_FIELD.because(format!("kind must be one of {known}."))
    })
}

fn parse_state(name: &str) -> Result<ReportState, Problem> {
    let known = ReportState::ALL.map(ReportState::as_str);
    ReportState::parse(name).ok_or_else(|| unknown("state", &known))
}
