//! `passbook reports wait`

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use contract::ReportId;

use super::{api::ApiArguments, follow, report::Report};
use crate::output::Format;

/// Wait until a report has ended, and show it.
///
/// Exit codes: 0 for a report that SUCCEEDED, 1 for one that is FAILED or CANCELLED, 2 when the
/// time is over or the API is away for two minutes.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The report's id.
    #[arg(value_name = "ID")]
    report: ReportId,
    /// Stop waiting after this time. The report is not cancelled.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    format: Format,
}

impl Wait {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let api = self.api.api()?;
        let waiting = async {
            let report = Report::get(&api, self.report).await?;
            follow::until_ended(&api, report).await
        };
        let report = match self.timeout {
            None => waiting.await?,
            Some(limit) => tokio::time::timeout(limit, waiting).await.with_context(|| {
                let limit = humantime::format_duration(limit);
                format!("the report has not ended after {limit}; it goes on")
            })??,
        };
        report.print(self.format.output)?;
        Ok(report.exit_code())
    }
}
