//! The checks of a request that need no database, together.

use report_document::{Format, Kind};
use reporting::Period;
use runtime::http::{json_body, problem::Problem};
use time::OffsetDateTime;

use super::{
    create::{ReportBody, check_fields, parse_formats, period},
    reports::parse_kind,
};

/// What a request for a report asks for.
#[derive(Debug)]
pub struct ParsedReport {
    pub kind: Kind,
    pub formats: Vec<Format>,
    /// `None` for a reconciliation.
    pub period: Option<Period>,
}

/// Parses the body of `POST /v1/reports`.
///
/// # Errors
/// `malformed-json`, `duplicate-field` or `invalid-field`
pub fn parse_report(body: &[u8], now: OffsetDateTime) -> Result<ParsedReport, Problem> {
    let body: ReportBody = json_body::object("The body", body)?;
    let kind = parse_kind(&body.kind).map_err(|problem| problem.at("kind"))?;
    check_fields(kind, &body)?;
    let formats = parse_formats(kind, body.formats.as_deref())?;
    let has_period = kind != Kind::Reconciliation;
    let period = has_period.then(|| period(&body, now)).transpose()?;
    Ok(ParsedReport { kind, formats, period })
}
