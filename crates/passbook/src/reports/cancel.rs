//! `passbook reports cancel`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use contract::ReportId;

use super::{
    api::ApiArguments,
    report::{Report, path},
};
use crate::output::Format;

/// Cancel a report that has not ended.
///
/// A QUEUED report is CANCELLED at once, a RUNNING one at its next step.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The report's id.
    #[arg(value_name = "ID")]
    report: ReportId,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    format: Format,
}

impl Cancel {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let path = format!("{}/cancel", path(self.report));
        let report: Report = self.api.api()?.post(&path, None).await?;
        report.print(self.format.output)?;
        Ok(ExitCode::SUCCESS)
    }
}
