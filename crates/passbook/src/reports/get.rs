//! `passbook reports get`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use contract::ReportId;

use super::{api::ApiArguments, report::Report};
use crate::output::Format;

/// Show a report: its state, its attempts and its files.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The report's id.
    #[arg(value_name = "ID")]
    report: ReportId,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    format: Format,
}

impl Get {
    pub(super) async fn run(self) -> Result<ExitCode> {
        Report::get(&self.api.api()?, self.report).await?.print(self.format.output)?;
        Ok(ExitCode::SUCCESS)
    }
}
