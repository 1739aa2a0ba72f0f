//! `passbook doctor`: finds unreachable servers, configuration drift and stuck work, and says how to
//! resolve each finding.
//!
//! The command changes nothing. The areas are checked concurrently and each check has a limit of ten
//! seconds, so an unreachable server hides no other finding. `doctor` examines the newest records
//! only, `verify` all.

mod check;
#[cfg(feature = "dev")]
mod faults;
mod nats;
mod postgres;
mod report_storage;
mod reports;
mod services;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use artifacts::StorageConfig;
use clap::Args;
use futures::future::{join, join_all, join3};

use crate::{
    arguments::{ReportQueueArguments, StreamStorageArguments, System, SystemArguments},
    error_chain,
    output::Format,
    pushgateway::{self, PushgatewayArguments},
};
use check::{Check, print};

/// Find what is unreachable, misconfigured or stuck, and how to resolve it.
///
/// Exits with 1 when there are findings.
#[cfg_attr(
    feature = "dev",
    doc = "",
    doc = "Without any URL, the development stack in DIR is examined."
)]
// The report-service requires a storage, this command does not.
#[derive(Debug, Args)]
#[command(mut_arg("report_storage_url", |url| url.required(false)))]
pub(crate) struct Doctor {
    #[command(flatten)]
    system: SystemArguments,
    /// Admin address of a service's process, such as http://10.0.0.7:9090. Repeat it for each
    /// process.
    #[cfg_attr(feature = "dev", doc = "The development stack's processes need no URL.")]
    #[arg(long = "service", value_name = "URL")]
    services: Vec<String>,
    /// Monitoring URLs of the servers of NATS, such as http://nats-0.nats:8222, separated by commas.
    /// Without it, their health and storage are not checked.
    #[cfg_attr(feature = "dev", doc = "The development stack's servers need no URL.")]
    #[arg(long, value_name = "URL", env = "PASSBOOK_NATS_MONITOR_URL", value_delimiter = ',')]
    nats_monitor_url: Vec<String>,
    #[command(flatten)]
    stream_storage: StreamStorageArguments,
    #[command(flatten)]
    report_queue: ReportQueueArguments,
    /// How long a report may wait behind others without a finding.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1h")]
    report_queue_limit: Duration,
    /// The storage of the reports' files. Without it, files are not compared with their rows.
    #[command(flatten)]
    storage: Option<StorageConfig>,
    #[command(flatten)]
    pushgateway: PushgatewayArguments,
    #[command(flatten)]
    format: Format,
}

impl Doctor {
    /// Runs and prints all checks. Exit code 1 on a finding.
    ///
    /// # Errors
    /// When neither a URL nor a development stack is known. Without a finding, also when the
    /// Pushgateway rejects the metrics.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let pushgateway = self.pushgateway.pushgateway()?;
        let system = match self.system.resolve().await {
            Err(_) if !self.services.is_empty() => System::default(),
            system => system?,
        };
        let mut processes: Vec<_> =
            self.services.iter().map(|url| (url.clone(), url.clone())).collect();
        processes.extend(system.processes());
        #[cfg(feature = "dev")]
        let mut checks = faults::check(system.stack.as_ref()).await;
        #[cfg(not(feature = "dev"))]
        let mut checks = Vec::new();
        checks.extend(self.check_servers(&system, &processes).await);
        print(&checks, self.format.output)?;
        let record = || {
            checks.iter().for_each(Check::record_metric);
            metrics::gauge!("passbook_doctor_last_run_timestamp_seconds").set(pushgateway::now());
        };
        let pushed = pushgateway.replace("passbook-doctor", record).await;
        if checks.iter().any(Check::is_finding) {
            pushed.unwrap_or_else(|error| tracing::error!("{}", error_chain::describe(&error)));
            return Ok(ExitCode::FAILURE);
        }
        pushed?;
        Ok(ExitCode::SUCCESS)
    }

    /// Checks databases, broker and processes concurrently.
    async fn check_servers(&self, system: &System, processes: &[(String, String)]) -> Vec<Check> {
        let urls = system.databases.as_ref();
        let report_url = system.report_database.as_deref();
        let databases = join3(
            postgres::check_account(urls.map(|urls| urls.account.as_str())),
            postgres::check_transaction(urls.map(|urls| urls.transaction.as_str())),
            reports::check(report_url, self.report_queue_limit, self.storage.as_ref()),
        );
        let topology = self.report_queue.topology(self.stream_storage.stream_storage);
        let given = self.nats_monitor_url.iter().filter(|url| !url.trim().is_empty());
        let mut monitors: Vec<_> =
            given.map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
        monitors.extend(system.monitors());
        let nats = nats::check(system.nats.as_ref(), &monitors, topology);
        let services = join_all(processes.iter().map(|(name, url)| services::check(name, url)));
        let ((account, transaction, report), (nats, services)) =
            join(databases, join(nats, services)).await;
        [account, transaction, report, nats].into_iter().chain(services).flatten().collect()
    }
}
