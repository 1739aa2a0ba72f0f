//! `passbook reports create`

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use client::{IdempotencyKey, ReportRequest};
use contract::AccountId;

use super::{
    api::{Api, ApiArguments},
    error::ApiError,
    follow, names,
    report::Report,
};
use crate::output::{Format, Output};

/// Ask for a report.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A statement: an account's entries in a period, with its balances.
    Statement(Statement),
    /// An activity report: the movements of all accounts in a period.
    Activity(Activity),
    /// A reconciliation report: what `passbook verify` finds in the databases.
    Reconciliation(Reconciliation),
}

#[derive(Debug, Args)]
pub(crate) struct Statement {
    /// The account.
    #[arg(long, value_name = "ID")]
    account: AccountId,
    #[command(flatten)]
    period: Period,
    /// Formats of the files.
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = names::statement_format())]
    format: Vec<String>,
    #[command(flatten)]
    request: Request,
}

#[derive(Debug, Args)]
pub(crate) struct Activity {
    #[command(flatten)]
    period: Period,
    /// Formats of the files.
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = names::activity_format())]
    format: Vec<String>,
    /// End the report with a page of prose.
    #[arg(long)]
    analysis: bool,
    #[command(flatten)]
    request: Request,
}

#[derive(Debug, Args)]
pub(crate) struct Reconciliation {
    /// Formats of the files.
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = names::reconciliation_format())]
    format: Vec<String>,
    #[command(flatten)]
    request: Request,
}

#[derive(Debug, Args)]
struct Period {
    /// Start of the period: a day in the time zone such as 2026-01-01, or an RFC 3339 time.
    #[arg(long, value_name = "DATE")]
    from: String,
    /// End of the period, which is not part of it: the start of a day, or an RFC 3339 time.
    #[arg(long, value_name = "DATE")]
    to: String,
    /// IANA name of the time zone, such as Asia/Seoul.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
}

#[derive(Debug, Args)]
struct Request {
    /// Key of this request. The same request with the same key gives the same report. Default: a
    /// new key, printed before the request.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    /// Answer with the report that is there, if the same report over the same ledger was asked for
    /// before.
    #[arg(long)]
    unique: bool,
    /// Wait until the report has ended. Exit code 1 if it is FAILED or CANCELLED.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    format: Format,
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Statement(Statement { account, period, format, request }) => {
                let report = period.request("statement", format);
                request.send(ReportRequest { account_id: Some(account), ..report }).await
            }
            Self::Activity(Activity { period, format, analysis, request }) => {
                let report = period.request("activity", format);
                request.send(ReportRequest { analysis: Some(analysis), ..report }).await
            }
            Self::Reconciliation(Reconciliation { format, request }) => {
                let kind = "reconciliation".to_owned();
                request.send(ReportRequest { kind, formats: format, ..Default::default() }).await
            }
        }
    }
}

impl Period {
    /// Without formats, the API chooses them.
    fn request(self, kind: &str, formats: Vec<String>) -> ReportRequest {
        let Self { from, to, time_zone } = self;
        ReportRequest {
            kind: kind.to_owned(),
            from: Some(from),
            to: Some(to),
            time_zone: Some(time_zone),
            formats,
            ..Default::default()
        }
    }
}

impl Request {
    async fn send(self, report: ReportRequest) -> Result<ExitCode> {
        let api = self.api.api()?;
        let report = ReportRequest { unique: self.unique, ..report };
        let key = self.idempotency_key.unwrap_or_else(|| {
            let key = IdempotencyKey::random();
            tracing::info!("the Idempotency-Key of this request is {key}");
            key
        });
        let request = client::Request::post("/v1/reports", &report).map_err(ApiError::from)?;
        let report = api.call(&request.key(&key)).await.map_err(|error| {
            if !error.is_transient() {
                return anyhow::Error::new(error);
            }
            anyhow::anyhow!(
                "{error}; the report may have been accepted: repeat the command with \
                 --idempotency-key {key}"
            )
        })?;
        finish(&api, report, self.wait, self.format.output).await
    }
}

/// Prints an accepted report, after its end if `wait`.
pub(super) async fn finish(
    api: &Api,
    report: Report,
    wait: bool,
    output: Output,
) -> Result<ExitCode> {
    if !wait {
        report.print(output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let id = report.fields.report_id;
    let report = follow::until_ended(api, report).await.with_context(|| {
        format!("the report {id} was accepted: wait for it with `passbook reports wait {id}`")
    })?;
    report.print(output)?;
    Ok(report.exit_code())
}
