//! `passbook verify`: checks the protocol's invariants.
//!
//! Over both databases: those of [`reconciliation`], and that the chains hold exported heads
//! (`--heads`). Over the streams: no message was dropped. Over
//! the report database: those of [`reports`].
//!
//! A record PENDING for more than 15 minutes (`--pending-limit`) counts as unsettled, because the
//! redrive sends every command at least every 12.5 minutes. A suspect message is checked again after
//! two seconds, advisories first, because a dead letter may be on its way.

mod report;
mod reports;
mod streams;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use reconciliation::{Findings, Heads, Limits, Progress, Replicas, Schema, Sources};

use crate::{
    arguments::{ReportQueueArguments, System, SystemArguments},
    broker::Broker,
    database::{self, DatabaseUrls},
    error_chain,
    heads::{HeadsArguments, HeadsFile},
    output::{self, Format},
    pushgateway::{Pushgateway, PushgatewayArguments},
};
use report::{LISTED, Report};

/// How long the streams are tried again: a stream or a consumer of a cluster has no leader for some
/// seconds after a node went or came back.
const STREAMS_READABLE_WITHIN: Duration = Duration::from_secs(30);
const STREAMS_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// The default of `--pending-limit`, and so the limit of scheduled runs.
const PENDING_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Verify the invariants over the databases and the streams.
///
/// Exits with 1 when an invariant is broken. Without a NATS URL, the streams are not checked; without
/// the URL of the report database, the reports are not. Safe beside a running system: records and
/// messages in flight are no findings. With --no-streams or another --pending-limit, nothing is sent
/// to the Pushgateway, because it would replace the results of scheduled runs.
#[cfg_attr(
    feature = "dev",
    doc = "",
    doc = "Without any URL, the development stack in DIR is verified."
)]
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    system: SystemArguments,
    #[command(flatten)]
    replicas: ReplicaArguments,
    #[command(flatten)]
    heads: HeadsArguments,
    /// Do not check the streams.
    #[arg(long)]
    no_streams: bool,
    /// How long a record may stay PENDING, and a report may be due without an attempt. The redrive
    /// sends each command again at least every 12.5 minutes.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "15m")]
    pending_limit: Duration,
    #[command(flatten)]
    report_queue: ReportQueueArguments,
    #[command(flatten)]
    pushgateway: PushgatewayArguments,
    #[command(flatten)]
    format: Format,
}

/// Replicas to read. They need the URLs of their primaries, too.
#[derive(Debug, Args)]
struct ReplicaArguments {
    /// URL of a replica of the account-service's database, to read the tables from. Rows that are
    /// missing there are looked up in the database itself.
    #[arg(long, value_name = "URL", env = "PASSBOOK_ACCOUNT_REPLICA_URL", hide_env_values = true)]
    account_replica_url: Option<String>,
    /// URL of a replica of the transaction-service's database, to read the tables from.
    #[arg(
        long,
        value_name = "URL",
        env = "PASSBOOK_TRANSACTION_REPLICA_URL",
        hide_env_values = true
    )]
    transaction_replica_url: Option<String>,
}

impl ReplicaArguments {
    fn replicas(&self) -> Result<Replicas> {
        let options = |url: &Option<String>| url.as_deref().map(database::options).transpose();
        Ok(Replicas {
            accounts: options(&self.account_replica_url).context("the account replica")?,
            ledger: options(&self.transaction_replica_url).context("the transaction replica")?,
        })
    }
}

impl Verify {
    /// Verifies, and prints the report. Exit code 1 on a finding.
    ///
    /// # Errors
    /// When a database can't be read. Without a finding, also when the streams can't be read or the
    /// Pushgateway rejects the metrics.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let pushgateway = self.pushgateway.pushgateway()?;
        let begun = Instant::now();
        let system = self.system.resolve().await?;
        let urls = system.databases.as_ref().context("no database URLs are given")?;
        let replicas = self.replicas.replicas()?;
        let heads = self.heads.open().context("the exported heads")?;
        let findings = verify_databases(urls, replicas, self.pending_limit, heads).await?;
        let mut report = Report::new(findings);
        let reports = self.verify_reports(&system, &mut report).await;
        let streams = self.verify_streams(&system, urls, &mut report).await;
        if let Err(error) = &streams {
            report.streams.why = Some(error_chain::describe(error));
        }
        report.not_pushed = self.reason_not_to_push().filter(|_| pushgateway.is_given());
        report.print(self.format.output)?;
        let complete = reports.is_ok() && streams.is_ok();
        let pushed = if report.not_pushed.is_none() {
            push(&pushgateway, &report, begun.elapsed(), complete).await
        } else {
            Ok(())
        };
        if report.has_findings() {
            pushed.unwrap_or_else(|error| tracing::error!("{}", error_chain::describe(&error)));
            return Ok(ExitCode::FAILURE);
        }
        reports.context("the report database")?;
        streams.context("the streams")?;
        pushed?;
        Ok(ExitCode::SUCCESS)
    }

    /// Why the results must not replace those of a scheduled run. `None` if such a run judges the
    /// same.
    fn reason_not_to_push(&self) -> Option<&'static str> {
        if self.no_streams {
            Some("--no-streams is given")
        } else if self.pending_limit != PENDING_LIMIT {
            Some("--pending-limit is not 15m")
        } else {
            None
        }
    }

    async fn verify_reports(&self, system: &System, report: &mut Report) -> Result<()> {
        let Some(url) = &system.report_database else {
            report.reports_not_checked = Some("no URL of the report database is given".to_owned());
            return Ok(());
        };
        let dated = &mut report.databases.dated;
        match reports::verify(url, &self.report_queue, self.pending_limit, dated).await {
            Ok(findings) => report.reports = Some(findings),
            Err(error) => {
                report.reports_not_checked = Some(error_chain::describe(&error));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn verify_streams(
        &self,
        system: &System,
        urls: &DatabaseUrls,
        report: &mut Report,
    ) -> Result<()> {
        let address = match &system.nats {
            _ if self.no_streams => {
                report.streams.why = Some("--no-streams".to_owned());
                return Ok(());
            }
            None => {
                report.streams.why = Some("no NATS URL is given".to_owned());
                return Ok(());
            }
            Some(address) => address,
        };
        let broker = Broker::connect(address).await?;
        let begun = Instant::now();
        loop {
            let mut accounts = database::connect(&urls.account).await?;
            let mut ledger = database::connect(&urls.transaction).await?;
            let Err(error) = streams::verify(&broker, &mut accounts, &mut ledger, report).await
            else {
                return Ok(());
            };
            if report.dropped.findings > 0 || begun.elapsed() > STREAMS_READABLE_WITHIN {
                return Err(error);
            }
            let reason = error_chain::describe(&error);
            tracing::warn!(reason, "the streams can't be read; trying again");
            report.forget_streams();
            tokio::time::sleep(STREAMS_AGAIN_AFTER).await;
        }
    }
}

/// Pushes two groups of metrics, because the databases' results may be known without the streams'.
async fn push(
    pushgateway: &Pushgateway,
    report: &Report,
    duration: Duration,
    complete: bool,
) -> Result<()> {
    let streams = match report.stream_metrics() {
        Some(record) => pushgateway.replace("passbook-verify/invariant/dropped", record).await,
        None => Ok(()),
    };
    // The time of a complete run is pushed last, and only if everything before it succeeded.
    let complete = complete && streams.is_ok();
    let record = || report.record_database_metrics(duration, complete);
    let databases = pushgateway.replace("passbook-verify", record).await;
    streams.and(databases)
}

fn as_heads(file: &mut HeadsFile) -> Heads<'_> {
    file
}

async fn verify_databases(
    urls: &DatabaseUrls,
    replicas: Replicas,
    pending: Duration,
    mut heads: Option<HeadsFile>,
) -> Result<Findings> {
    let options = |name: &'static str, url: &str| database::options(url).context(name);
    let sources = Sources {
        accounts: options("the account database", &urls.account)?,
        ledger: options("the transaction database", &urls.transaction)?,
        schema: Schema::Tables,
        replicas,
    };
    let Replicas { accounts, ledger } = &sources.replicas;
    for server in [&sources.accounts, &sources.ledger].into_iter().chain(accounts).chain(ledger) {
        database::watch(server);
    }
    let bar = output::progress("records compared with the ledger", None);
    let mut progress = |progress| {
        if let Progress::Records(done) = progress {
            bar.set_position(done);
        }
    };
    let limits = Limits { pending, listed: LISTED };
    let heads = heads.as_mut().map(as_heads);
    let findings = reconciliation::reconcile(&sources, limits, heads, &mut progress).await;
    bar.finish_and_clear();
    Ok(findings?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        verify: Verify,
    }

    #[test]
    fn only_a_run_that_judges_as_a_scheduled_one_pushes() {
        let reason = |arguments: &[&str]| {
            let words = ["verify"].iter().chain(arguments).copied();
            Command::try_parse_from(words).unwrap().verify.reason_not_to_push()
        };
        assert_eq!(reason(&[]), None);
        assert_eq!(reason(&["--pending-limit", "900s"]), None);
        assert!(reason(&["--pending-limit", "2m"]).is_some());
        assert!(reason(&["--no-streams"]).is_some());
    }
}
