//! `passbook reports retry`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use client::IdempotencyKey;
use contract::ReportId;

use super::{api::ApiArguments, create::finish, report::path};
use crate::output::Format;

/// Ask again for a report that is FAILED or CANCELLED. Gives a new report.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The id of the earlier report.
    #[arg(value_name = "ID")]
    report: ReportId,
    /// Key of this request. Without a key, each retry of the same report gives the same new report.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    /// Wait until the new report has ended. Exit code 1 if it is FAILED or CANCELLED.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    format: Format,
}

impl Retry {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let api = self.api.api()?;
        let path = format!("{}/retry", path(self.report));
        let report = api.post(&path, self.idempotency_key.as_ref()).await?;
        finish(&api, report, self.wait, self.format.output).await
    }
}
