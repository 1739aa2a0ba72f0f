//! `passbook reports ls`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use client::Page;

use super::{api::ApiArguments, names, report::Report};
use crate::output::{self, Format, Output};

/// The API's largest page.
const PAGE: u32 = 100;

/// List reports, newest first.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only reports of this kind.
    #[arg(long, value_parser = names::kind())]
    kind: Option<String>,
    /// Only reports in this state.
    #[arg(long, value_parser = names::state(), ignore_case = true)]
    state: Option<String>,
    /// Maximum number of listed reports.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    format: Format,
}

impl Ls {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let reports = self.read().await?;
        match self.format.output {
            Output::Json => {
                output::json(&reports.iter().map(|report| &report.raw).collect::<Vec<_>>())?
            }
            Output::Table if reports.is_empty() => output::line("no reports")?,
            Output::Table => output::table(
                &["ID", "KIND", "STATE", "ATTEMPT", "CREATED", "FORMATS", "PROGRESS OR ERROR"],
                reports.iter().map(row),
            )?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn read(&self) -> Result<Vec<Report>> {
        let api = self.api.api()?;
        let mut reports: Vec<Report> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let missing = self.limit.saturating_sub(u32::try_from(reports.len())?);
            let mut path = format!("/v1/reports?limit={}", missing.min(PAGE));
            let filters = [("kind", &self.kind), ("state", &self.state), ("cursor", &cursor)];
            for (name, value) in filters {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={value}"));
                }
            }
            let page: Page<Report> = api.get(&path).await?;
            reports.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() || reports.len() >= usize::try_from(self.limit)? {
                return Ok(reports);
            }
        }
    }
}

fn row(report: &Report) -> Vec<String> {
    let fields = &report.fields;
    let progress = fields.progress.as_ref().filter(|_| fields.state == "RUNNING");
    let last = progress.map(ToString::to_string).or_else(|| fields.error.clone());
    vec![
        fields.report_id.to_string(),
        fields.kind.clone(),
        fields.state.clone(),
        fields.attempt.to_string(),
        fields.created_at.clone(),
        fields.formats.join(","),
        last.unwrap_or_default(),
    ]
}
