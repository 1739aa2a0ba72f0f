//! `passbook reports create`

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use contract::AccountId;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{api::ApiArguments, client::Client, follow, names, report::Report};
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
    idempotency_key: Option<String>,
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
                let mut body = body("statement", Some(period), format);
                body.insert("accountId".to_owned(), json!(account));
                request.send(body).await
            }
            Self::Activity(Activity { period, format, analysis, request }) => {
                let mut body = body("activity", Some(period), format);
                body.insert("analysis".to_owned(), json!(analysis));
                request.send(body).await
            }
            Self::Reconciliation(Reconciliation { format, request }) => {
                request.send(body("reconciliation", None, format)).await
            }
        }
    }
}

/// The fields that are the same for several kinds. Without formats, the API chooses them.
fn body(kind: &str, period: Option<Period>, formats: Vec<String>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("kind".to_owned(), json!(kind));
    if let Some(Period { from, to, time_zone }) = period {
        body.insert("from".to_owned(), json!(from));
        body.insert("to".to_owned(), json!(to));
        body.insert("timeZone".to_owned(), json!(time_zone));
    }
    if !formats.is_empty() {
        body.insert("formats".to_owned(), json!(formats));
    }
    body
}

impl Request {
    async fn send(self, mut body: Map<String, Value>) -> Result<ExitCode> {
        let client = self.api.client()?;
        if self.unique {
            body.insert("unique".to_owned(), json!(true));
        }
        let key = self.idempotency_key.unwrap_or_else(|| {
            let key = Uuid::now_v7().to_string();
            tracing::info!("the Idempotency-Key of this request is {key}");
            key
        });
        let response = client.post("/v1/reports", Some(&key), Some(&Value::Object(body))).await;
        let report = response.and_then(Report::parse).map_err(|error| {
            if !error.is_transient() {
                return anyhow::Error::new(error);
            }
            anyhow::anyhow!(
                "{error}; the report may have been accepted: repeat the command with \
                 --idempotency-key {key}"
            )
        })?;
        finish(&client, report, self.wait, self.format.output).await
    }
}

/// Prints an accepted report, after its end if `wait`.
pub(super) async fn finish(
    client: &Client,
    report: Report,
    wait: bool,
    output: Output,
) -> Result<ExitCode> {
    if !wait {
        report.print(output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let id = report.fields.report_id;
    let report = follow::until_ended(client, report).await.with_context(|| {
        format!("the report {id} was accepted: wait for it with `passbook reports wait {id}`")
    })?;
    report.print(output)?;
    Ok(report.exit_code())
}
