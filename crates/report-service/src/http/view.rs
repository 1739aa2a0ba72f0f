//! The JSON form of a report.

use contract::ReportId;
use report_document::{Format, Period};
use runtime::http::timestamp;
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    report::{Artifact, Attempt, Parameters, Report},
    signer::hex,
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReportView {
    report_id: ReportId,
    kind: &'static str,
    parameters: ParametersView,
    formats: Vec<Format>,
    state: &'static str,
    attempt: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptView>>,
    progress: Option<ProgressView>,
    artifacts: Vec<ArtifactView>,
    error: Option<String>,
    retry_of: Option<ReportId>,
    requested_by: String,
    #[serde(with = "timestamp")]
    created_at: OffsetDateTime,
    #[serde(with = "timestamp")]
    updated_at: OffsetDateTime,
}

/// A period `[from, to)`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PeriodView {
    /// The first instant, with the offset of the time zone at that time.
    #[serde(with = "timestamp")]
    from: OffsetDateTime,
    /// The first instant after the period, with the offset of the time zone.
    #[serde(with = "timestamp")]
    to: OffsetDateTime,
    /// The IANA name of the time zone.
    time_zone: String,
}

impl From<&Period> for PeriodView {
    fn from(period: &Period) -> Self {
        Self { from: period.from, to: period.to, time_zone: period.time_zone.clone() }
    }
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ParametersView {
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<contract::AccountId>,
    #[serde(flatten)]
    period: Option<PeriodView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    analysis: Option<bool>,
}

impl From<&Parameters> for ParametersView {
    fn from(parameters: &Parameters) -> Self {
        match parameters {
            Parameters::Statement { account_id, period } => Self {
                account_id: Some(*account_id),
                period: Some(period.into()),
                ..Self::default()
            },
            Parameters::Activity { period, analysis } => {
                Self { period: Some(period.into()), analysis: Some(*analysis), ..Self::default() }
            }
            Parameters::Reconciliation => Self::default(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptView {
    number: i32,
    worker: String,
    #[serde(with = "timestamp")]
    started_at: OffsetDateTime,
    #[serde(with = "timestamp::option")]
    ended_at: Option<OffsetDateTime>,
    outcome: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProgressView {
    step: String,
    done: i64,
    total: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactView {
    format: Format,
    size: u64,
    sha256: String,
    href: String,
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
            retry_of: report.retry_of,
            requested_by: report.requested_by,
            created_at: report.created_at,
            updated_at: report.updated_at,
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            worker: attempt.worker,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            outcome: attempt.outcome,
            error: attempt.error,
        }
    }
}
