//! A report as the API shows it, and as this program prints it.

use std::process::ExitCode;

use anyhow::Result;
use client::ReportProgress;
use contract::ReportId;
use serde::Deserialize;
use serde_json::Value;

use super::{api::Api, error::ApiError};
use crate::output::{self, Output};

/// A report. [`Report::raw`] has all of the response.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Report {
    pub(super) fields: Fields,
    pub(super) raw: Value,
}

/// The fields this program knows. States, kinds and steps of newer services are only shown.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fields {
    pub(super) report_id: ReportId,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) parameters: Parameters,
    #[serde(default)]
    pub(super) formats: Vec<String>,
    pub(super) state: String,
    #[serde(default)]
    pub(super) attempt: i64,
    #[serde(default)]
    attempts: Option<Vec<Attempt>>,
    pub(super) progress: Option<ReportProgress>,
    #[serde(default)]
    pub(super) artifacts: Vec<Artifact>,
    pub(super) error: Option<String>,
    retry_of: Option<ReportId>,
    requested_by: Option<String>,
    pub(super) created_at: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Parameters {
    pub(super) account_id: Option<String>,
    from: Option<String>,
    to: Option<String>,
    time_zone: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    number: i64,
    worker: Option<String>,
    started_at: String,
    ended_at: Option<String>,
    outcome: Option<String>,
    error: Option<String>,
}

/// A file to download.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Artifact {
    pub(super) format: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) href: String,
    expires_at: String,
}

impl TryFrom<Value> for Report {
    type Error = serde_json::Error;

    fn try_from(raw: Value) -> Result<Self, serde_json::Error> {
        Ok(Self { fields: Fields::deserialize(&raw)?, raw })
    }
}

impl Report {
    /// Requests the report with this id.
    pub(super) async fn get(api: &Api, id: ReportId) -> Result<Self, ApiError> {
        api.get(&path(id)).await
    }

    pub(super) fn has_ended(&self) -> bool {
        is_end(&self.fields.state)
    }

    /// The exit code of a command that waited for the report.
    pub(super) fn exit_code(&self) -> ExitCode {
        if self.fields.state == "SUCCEEDED" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// # Errors
    /// When stdout is closed.
    pub(super) fn print(&self, output: Output) -> Result<()> {
        if output == Output::Json {
            return output::json(&self.raw);
        }
        output::table(&["REPORT", &self.fields.report_id.to_string()], self.fields.rows())?;
        self.fields.print_attempts()?;
        self.fields.print_artifacts()
    }
}

impl Fields {
    fn rows(&self) -> Vec<Vec<String>> {
        let Parameters { account_id, from, to, time_zone } = &self.parameters;
        let period = from.as_ref().zip(to.as_ref()).map(|(from, to)| {
            format!("{from} to {to}, {}", time_zone.as_deref().unwrap_or_default())
        });
        let rows = [
            ("kind", Some(self.kind.clone())),
            ("state", Some(self.state.clone())),
            ("progress", self.progress.as_ref().map(ToString::to_string)),
            ("account", account_id.clone()),
            ("period", period),
            ("formats", Some(self.formats.join(", "))),
            ("retry of", self.retry_of.map(|id| id.to_string())),
            ("requested by", self.requested_by.clone()),
            ("created", Some(self.created_at.clone())),
            ("error", self.error.clone()),
        ];
        let rows = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
        rows.map(|(name, value)| vec![name.to_owned(), value]).collect()
    }

    fn print_attempts(&self) -> Result<()> {
        let Some(attempts) = self.attempts.as_ref().filter(|attempts| !attempts.is_empty()) else {
            return Ok(());
        };
        output::line("")?;
        output::table(
            &["ATTEMPT", "OUTCOME", "STARTED", "ENDED", "WORKER", "ERROR"],
            attempts.iter().map(|attempt| {
                vec![
                    attempt.number.to_string(),
                    attempt.outcome.clone().unwrap_or_else(|| "runs".to_owned()),
                    attempt.started_at.clone(),
                    attempt.ended_at.clone().unwrap_or_default(),
                    attempt.worker.clone().unwrap_or_default(),
                    attempt.error.clone().unwrap_or_default(),
                ]
            }),
        )
    }

    fn print_artifacts(&self) -> Result<()> {
        if self.artifacts.is_empty() {
            return Ok(());
        }
        output::line("")?;
        output::table(
            &["FORMAT", "BYTES", "SHA-256", "EXPIRES"],
            self.artifacts.iter().map(|artifact| {
                vec![
                    artifact.format.clone(),
                    artifact.size.to_string(),
                    artifact.sha256.clone(),
                    artifact.expires_at.clone(),
                ]
            }),
        )
    }
}

/// The path of a report in the API.
pub(super) fn path(id: ReportId) -> String {
    format!("/v1/reports/{id}")
}

/// Whether no report leaves this state.
pub(super) fn is_end(state: &str) -> bool {
    matches!(state, "SUCCEEDED" | "FAILED" | "CANCELLED")
}
