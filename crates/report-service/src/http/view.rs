//! The JSON form of a report.

use contract::ReportId;
use report_document::{Format, Period};
use runtime::http::timestamp;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::schemas;
use crate::{
    report::{Artifact, Attempt, Parameters, Report},
    signer::hex,
};

/// What callers without `accounts:any` read about an error inside the service.
const INTERNAL_ERROR: &str = "An error inside the service. Its operator can see the cause.";

/// A report: a long job, and its files.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Report)]
pub(super) struct ReportView {
    #[schema(value_type = Uuid)]
    report_id: ReportId,
    #[schema(value_type = schemas::ReportKind)]
    kind: &'static str,
    parameters: ParametersView,
    #[schema(value_type = Vec<schemas::ReportFormat>)]
    formats: Vec<Format>,
    #[schema(value_type = schemas::ReportState)]
    state: &'static str,
    /// The number of the present or last attempt; 0 before the first.
    #[schema(minimum = 0)]
    attempt: i32,
    /// The attempts, oldest first. Absent in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    attempts: Option<Vec<AttemptView>>,
    /// The progress of the present attempt.
    #[schema(required)]
    progress: Option<ProgressView>,
    /// The files, once the report is SUCCEEDED.
    artifacts: Vec<ArtifactView>,
    /// Why the report FAILED, or the last attempt. Causes inside the service are for callers with
    /// `accounts:any`; others read that there is one.
    #[schema(required)]
    error: Option<String>,
    /// The error as others than operators read it.
    #[serde(skip)]
    public_error: Option<String>,
    /// The report that this one repeats.
    #[schema(value_type = Option<Uuid>, required)]
    retry_of: Option<ReportId>,
    /// The `sub` of the token that asked for the report: of the account's owner, or of a teller.
    requested_by: String,
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
    #[serde(with = "timestamp")]
    updated_at: OffsetDateTime,
}

/// The parameters of a report, as its kind has them.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportParameters)]
struct ParametersView {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>, nullable = false)]
    account_id: Option<contract::AccountId>,
    /// The first instant of the period, with the offset of the time zone.
    #[serde(with = "timestamp::option", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    from: Option<OffsetDateTime>,
    /// The first instant after the period, with the offset of the time zone.
    #[serde(with = "timestamp::option", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    to: Option<OffsetDateTime>,
    /// The IANA name of the time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    analysis: Option<bool>,
}

impl ParametersView {
    fn of_period(period: &Period) -> Self {
        let (from, to) = (Some(period.from), Some(period.to));
        Self { from, to, time_zone: Some(period.time_zone.clone()), ..Self::default() }
    }
}

impl From<&Parameters> for ParametersView {
    fn from(parameters: &Parameters) -> Self {
        match parameters {
            Parameters::Statement { account_id, period } => {
                Self { account_id: Some(*account_id), ..Self::of_period(period) }
            }
            Parameters::Activity { period, analysis } => {
                Self { analysis: Some(*analysis), ..Self::of_period(period) }
            }
            Parameters::Reconciliation => Self::default(),
        }
    }
}

/// One attempt to make a report.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportAttempt)]
struct AttemptView {
    #[schema(minimum = 1)]
    number: i32,
    /// The replica; null for callers without `accounts:any`.
    #[schema(required)]
    worker: Option<String>,
    #[serde(with = "timestamp")]
    started_at: OffsetDateTime,
    #[serde(with = "timestamp::option")]
    #[schema(required)]
    ended_at: Option<OffsetDateTime>,
    #[schema(value_type = Option<schemas::AttemptOutcome>, required)]
    outcome: Option<String>,
    /// Why it failed, as `error` of the report.
    #[schema(required)]
    error: Option<String>,
}

/// The progress of an attempt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReportProgress)]
struct ProgressView {
    step: String,
    /// Finished units of the step.
    #[schema(minimum = 0)]
    done: i64,
    /// All units of the step, if they are known.
    #[schema(minimum = 0, required)]
    total: Option<i64>,
}

/// A file of a report.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportArtifact)]
struct ArtifactView {
    #[schema(value_type = schemas::ReportFormat)]
    format: Format,
    /// Bytes.
    size: u64,
    /// In lowercase hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// The path of the file. With `.sig` behind it, that of its signature.
    #[schema(format = "uri-reference")]
    href: String,
    /// The file is deleted after this time.
    #[serde(with = "timestamp")]
    expires_at: OffsetDateTime,
}

impl ReportView {
    /// A report in a list has no attempts.
    pub(super) fn new(
        report: Report,
        attempts: Option<Vec<Attempt>>,
        artifacts: Vec<Artifact>,
    ) -> Self {
        let href = |format| format!("/v1/reports/{}/artifacts/{format}", report.id);
        let artifacts = artifacts.into_iter().filter(|artifact| !artifact.is_deleted);
        let artifacts = artifacts.map(|artifact| ArtifactView {
            format: artifact.format,
            size: artifact.size,
            sha256: hex(&artifact.sha256),
            href: href(artifact.format),
            expires_at: artifact.expires_at,
        });
        let progress = report.step.clone().map(|step| ProgressView {
            step,
            done: report.done.unwrap_or_default(),
            total: report.total,
        });
        Self {
            report_id: report.id,
            kind: report.parameters.kind().as_str(),
            parameters: ParametersView::from(&report.parameters),
            state: report.state.as_str(),
            attempt: report.attempt,
            attempts: attempts
                .map(|attempts| attempts.into_iter().map(AttemptView::from).collect()),
            progress,
            artifacts: artifacts.collect(),
            formats: report.formats,
            error: report.error,
            public_error: report.public_error,
            retry_of: report.retry_of,
            requested_by: report.requested_by,
            created_at: report.created_at,
            updated_at: report.updated_at,
        }
    }

    /// The view for a caller. Without `sees_internals`, it names no replica and no cause inside the
    /// service.
    pub(super) fn for_caller(mut self, sees_internals: bool) -> Self {
        if sees_internals {
            return self;
        }
        let internal = || INTERNAL_ERROR.to_owned();
        let public = self.public_error.as_ref();
        self.error = self.error.map(|_| public.cloned().unwrap_or_else(internal));
        for attempt in self.attempts.iter_mut().flatten() {
            // A public error ended the report, with its last attempt.
            let public = public.filter(|_| attempt.number == self.attempt);
            attempt.error = attempt.error.take().map(|_| public.cloned().unwrap_or_else(internal));
            attempt.worker = None;
        }
        self
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            worker: Some(attempt.worker),
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            outcome: attempt.outcome,
            error: attempt.error,
        }
    }
}
