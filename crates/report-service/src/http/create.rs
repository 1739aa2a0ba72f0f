//! `POST /v1/reports` and `/v1/reports/{id}/retry`: asks for a report.
//!
//! A request is accepted once its row is committed. Every check that can reject it
//! therefore precedes the commit.

use ::audit_log::Actor;
use axum::{Extension, extract::State, http::HeaderMap, response::Response};
use contract::{AccountId, ReportId, Scope};
use report_document::{Format, Kind};
use reporting::{AccountInfo, Period, PeriodError};
use runtime::{
    http::{
        bearer::Caller,
        database::{after_write, write},
        idempotency_key::{self, IdempotencyKey, KEY_REUSED},
        json_body::JsonBody,
        openapi::{IdempotencyKeyHeader, OptionalIdempotencyKeyHeader, PreferHeader},
        path_id::PathId,
        problem::{INVALID_FIELD, Problem},
    },
    telemetry::trace::Trace,
};
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    Api, ApiState, access,
    problems::{ACCOUNT_NOT_FOUND, STATE_CONFLICT, TOO_MANY_OPEN_REPORTS, unavailable},
    reports::{self, parse_kind, visible},
    schemas,
    view::ReportView,
};
use crate::{
    job::State as ReportState,
    report::{NewReport, Parameters},
    store::{self, Accepted},
};

/// The report to make. A statement needs `accountId`, `from` and `to`, an activity report `from`
/// and `to`, a reconciliation none of them. Fields that the kind does not have are refused.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = ReportRequest)]
pub(super) struct ReportBody {
    #[schema(value_type = schemas::ReportKind)]
    pub(super) kind: String,
    /// The account of a statement.
    #[schema(value_type = Option<Uuid>)]
    account_id: Option<String>,
    /// The start of the period.
    #[schema(value_type = Option<schemas::PeriodBound>)]
    from: Option<String>,
    /// The end of the period, which is not part of it.
    #[schema(value_type = Option<schemas::PeriodBound>)]
    to: Option<String>,
    /// The IANA name of the time zone of the period and of the times in the report; UTC if absent.
    #[schema(examples("Asia/Seoul"))]
    time_zone: Option<String>,
    /// The files to make, each format once. `pdf` if absent.
    #[schema(value_type = Option<Vec<schemas::ReportFormat>>, min_items = 1)]
    pub(super) formats: Option<Vec<String>>,
    /// Whether an activity report has an analysis.
    analysis: Option<bool>,
    /// Whether the request may join an open report of the same kind, parameters, formats and
    /// position of the ledger.
    #[serde(default)]
    unique: bool,
}

/// Ask for a report
///
/// Reports are made one at a time, in the order of asking. The report is durable once the response
/// arrives. A customer has at most ten open reports.
#[utoipa::path(post, path = "/v1/reports", tag = "Reports", operation_id = "createReport",
    security(("token" = ["reports:write"])),
    params(IdempotencyKeyHeader, PreferHeader),
    request_body = ReportBody,
    responses(
        (status = OK, body = ReportView, description = "After a wait: the report has ended.",
            headers(("Location" = String, description = "The path of the report."))),
        (status = ACCEPTED, body = ReportView, description = "The report is durable.",
            headers(("Location" = String, description = "The path of the report."))),
        (status = NOT_FOUND, description = "account-not-found"),
        (status = TOO_MANY_REQUESTS, description = "too-many-open-reports"),
    ))]
pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Extension(trace): Extension<Trace>,
    JsonBody(body): JsonBody<ReportBody>,
) -> Result<Response, Problem> {
    caller.require(Scope::ReportsWrite)?;
    let key = idempotency_key::of_request(&headers)?;
    let kind = parse_kind(&body.kind).map_err(|problem| problem.at("kind"))?;
    access::check_kind(&caller, kind)?;
    check_fields(kind, &body)?;
    let formats = parse_formats(kind, body.formats.as_deref())?;
    let (parameters, account_owner) = parameters(&api, &caller, kind, &body).await?;
    let unique_at =
        if body.unique { Some(ledger_position(&api, &parameters).await?) } else { None };
    let new = NewReport {
        id: ReportId::new(),
        requested_by: caller.user_id.to_string(),
        account_owner,
        key,
        parameters,
        formats,
        unique_at,
        retry_of: None,
        most_open: access::most_open(&caller),
    };
    accept(&api, &caller, new, &headers, trace).await
}

/// Retry a report
///
/// Asks for a FAILED or CANCELLED report again, as a new report. Without a key of its own, a second
/// request for the same retry answers with the same new report.
#[utoipa::path(post, path = "/v1/reports/{report}/retry", tag = "Reports",
    operation_id = "retryReport",
    security(("token" = ["reports:write"])),
    params(
        ("report" = Uuid, Path, description = "The id of the report."),
        OptionalIdempotencyKeyHeader,
        PreferHeader,
    ),
    responses(
        (status = OK, body = ReportView, description = "After a wait: the new report has ended.",
            headers(("Location" = String, description = "The path of the new report."))),
        (status = ACCEPTED, body = ReportView, description = "The new report is durable.",
            headers(("Location" = String, description = "The path of the new report."))),
        (status = NOT_FOUND, description = "report-not-found"),
        (status = CONFLICT, description = "report-state-conflict"),
        (status = TOO_MANY_REQUESTS, description = "too-many-open-reports"),
    ))]
pub(super) async fn retry(
    State(api): State<ApiState>,
    caller: Caller,
    PathId(id): PathId<ReportId>,
    headers: HeaderMap,
    Extension(trace): Extension<Trace>,
) -> Result<Response, Problem> {
    let report = visible(&api, &caller, Scope::ReportsWrite, id).await?;
    if !matches!(report.state, ReportState::Failed | ReportState::Cancelled) {
        let detail = format!(
            "The report is {}. Only a report that is FAILED or CANCELLED can be retried.",
            report.state
        );
        return Err(STATE_CONFLICT.because(detail));
    }
    let key = idempotency_key::optional(&headers)?
        .or_else(|| IdempotencyKey::parse(&format!("retry-of-{id}")));
    let new = NewReport {
        id: ReportId::new(),
        requested_by: caller.user_id.to_string(),
        account_owner: report.account_owner,
        key: key.ok_or_else(|| INVALID_FIELD.because("The key is malformed."))?,
        parameters: report.parameters,
        formats: report.formats,
        unique_at: None,
        retry_of: Some(id),
        most_open: access::most_open(&caller),
    };
    accept(&api, &caller, new, &headers, trace).await
}

async fn accept(
    api: &Api,
    caller: &Caller,
    new: NewReport,
    headers: &HeaderMap,
    trace: Trace,
) -> Result<Response, Problem> {
    let remedy = "The database did not answer in time, so the request may have been stored. Send \
                  it again with the same Idempotency-Key: it is stored once at most.";
    let stored = store::insert(&api.pool, &new, &trace, Actor::new(caller));
    let (report, replayed) = match write(remedy, stored).await? {
        Accepted::New(report) => {
            metrics::counter!("passbook_reports_accepted_total",
                "kind" => report.parameters.kind().as_str())
            .increment(1);
            api.waker.wake(report.id, trace);
            (report, false)
        }
        Accepted::Replayed(report) => (report, true),
        Accepted::Joined(report) => (report, false),
        Accepted::KeyReused => {
            let detail = "Send a new key for a new request, or the first request again.";
            return Err(KEY_REUSED.because(detail).at_header("Idempotency-Key"));
        }
        Accepted::TooManyOpen => {
            let most = new.most_open.unwrap_or_default();
            let detail = format!("A customer may have {most} open reports. Nothing was stored.");
            return Err(TOO_MANY_OPEN_REPORTS.because(detail).retry_after(10));
        }
    };
    after_write(remedy, reports::respond(api, caller, report, headers, replayed)).await
}

/// Rejects fields that the kind does not have: a misunderstanding would otherwise show
/// only in the report.
pub(super) fn check_fields(kind: Kind, body: &ReportBody) -> Result<(), Problem> {
    let period = kind != Kind::Reconciliation;
    let fields = [
        ("accountId", body.account_id.is_some(), kind == Kind::Statement),
        ("from", body.from.is_some(), period),
        ("to", body.to.is_some(), period),
        ("timeZone", body.time_zone.is_some(), period),
        ("analysis", body.analysis.is_some(), kind == Kind::Activity),
    ];
    for (field, given, allowed) in fields {
        if given && !allowed {
            return Err(INVALID_FIELD
                .because(format!("A {kind} report has no {field}."))
                .at(field));
        }
        if !given && allowed && matches!(field, "accountId" | "from" | "to") {
            return Err(INVALID_FIELD.because(format!("A {kind} report needs {field}.")).at(field));
        }
    }
    Ok(())
}

pub(super) fn parse_formats(kind: Kind, names: Option<&[String]>) -> Result<Vec<Format>, Problem> {
    let known = || kind.formats().iter().map(|format| format.as_str()).collect::<Vec<_>>();
    let invalid = || {
        let detail = format!(
            "formats of a {kind} report must be one or more of {}, each once.",
            known().join(", ")
        );
        INVALID_FIELD.because(detail).at("formats")
    };
    let Some(names) = names else { return Ok(vec![Format::Pdf]) };
    let mut formats = Vec::with_capacity(names.len().min(Format::ALL.len()));
    for name in names {
        let format = Format::parse(name).filter(|format| kind.formats().contains(format));
        let format = format.filter(|format| !formats.contains(format)).ok_or_else(invalid)?;
        formats.push(format);
    }
    if formats.is_empty() {
        return Err(invalid());
    }
    // One order, so that the same formats are the same request.
    formats.sort_unstable();
    Ok(formats)
}

/// The parameters, and the owner of a statement's account.
async fn parameters(
    api: &Api,
    caller: &Caller,
    kind: Kind,
    body: &ReportBody,
) -> Result<(Parameters, Option<String>), Problem> {
    let now = OffsetDateTime::now_utc();
    match kind {
        Kind::Reconciliation => Ok((Parameters::Reconciliation, None)),
        Kind::Activity => {
            let analysis = body.analysis.unwrap_or_default();
            Ok((Parameters::Activity { period: period(body, now)?.document(), analysis }, None))
        }
        Kind::Statement => {
            let text = body.account_id.as_deref().unwrap_or_default();
            let account_id: AccountId = text.parse().map_err(|error| {
                INVALID_FIELD.because(format!("accountId {error}.")).at("accountId")
            })?;
            let account = account(api, caller, account_id).await?;
            let period = period(body, now)?;
            check_opened(api, &account, &period).await?;
            let parameters = Parameters::Statement { account_id, period: period.document() };
            Ok((parameters, Some(account.owner_id)))
        }
    }
}

/// Rejects a period that begins before the day on which the account was opened.
async fn check_opened(api: &Api, account: &AccountInfo, period: &Period) -> Result<(), Problem> {
    if period.check_opened(account.created_at).is_ok() {
        return Ok(());
    }
    // The account may have moved money before that day: then its statements need those days, too.
    let opened_at = reporting::opened_at(&api.ledger, account).await;
    let opened_at = opened_at.map_err(|error| unavailable("The ledger", &error))?;
    period.check_opened(opened_at).map_err(period_problem)
}

async fn account(api: &Api, caller: &Caller, id: AccountId) -> Result<AccountInfo, Problem> {
    let account = api.accounts.find(id).await;
    let account = account.map_err(|error| unavailable("The account database", &error))?;
    let not_found = ACCOUNT_NOT_FOUND.because(format!("No account has the id {id}."));
    match account {
        Some(account) if caller.may_use(&account.owner_id) => Ok(account),
        Some(_) => Err(not_found.hidden_from(&caller.user_id)),
        None => Err(not_found),
    }
}

pub(super) fn period(body: &ReportBody, now: OffsetDateTime) -> Result<Period, Problem> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let zone = body.time_zone.as_deref().unwrap_or("UTC");
    Period::parse(&text(&body.from), &text(&body.to), zone, now).map_err(period_problem)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn period_problem(error: PeriodError) -> Problem {
    let field = error.parameter();
    INVALID_FIELD.because(format!("{field} {error}.")).at(field)
}

/// The position of the ledger behind a report: a later report of the same parameters
/// can differ only if this number does.
async fn ledger_position(api: &Api, parameters: &Parameters) -> Result<i64, Problem> {
    let unavailable = |error: &dyn std::fmt::Display| unavailable("The ledger", error);
    match parameters {
        Parameters::Statement { account_id, period } => {
            let account = api.accounts.find(*account_id).await;
            let account = account.map_err(|error| unavailable(&error))?;
            let Some(account) = account else { return Ok(0) };
            let position = reporting::position(&api.ledger, &account, period.to).await;
            Ok(position.map_err(|error| unavailable(&error))?.account_seq)
        }
        // The rows of a past period do not change.
        Parameters::Activity { .. } => Ok(0),
        Parameters::Reconciliation => {
            api.ledger.last_transaction_id().await.map_err(|error| unavailable(&error))
        }
    }
}
