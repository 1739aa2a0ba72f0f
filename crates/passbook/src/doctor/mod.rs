//! `passbook doctor`: what can't be reached, what has drifted from what this
//! release expects, what is stuck and since when, and what to do about each.
//!
//! It changes nothing. Each area is looked at beside the others and each check
//! has a time limit, so that what is away hides nothing else.

mod check;
mod faults;
mod nats;
mod postgres;
mod services;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use futures::future::{join, join_all};

use crate::{
    cli::{Addresses, System},
    output::Format,
    push::{self, Push},
};
use check::{Check, print};

/// What is older than this is stuck: everything is done within seconds.
const STUCK: Duration = Duration::from_secs(60);

/// Find what is unreachable, misconfigured or stuck, and say what to do.
///
/// Exits with 1 when something was found. Without URLs, the development stack
/// is examined.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    system: System,
    /// Admin address of a service's process, such as http://10.0.0.7:9090; may be repeated. Those
    /// of the development stack are known.
    #[arg(long = "service", value_name = "URL")]
    services: Vec<String>,
    #[command(flatten)]
    push: Push,
    #[command(flatten)]
    format: Format,
}

impl Doctor {
    /// Looks at everything, prints it.
    ///
    /// # Errors
    /// When it is not known where to look.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let gateway = self.push.gateway()?;
        let Addresses { databases, nats, stack } = match self.system.find().await {
            Err(_) if !self.services.is_empty() => Addresses::default(),
            addresses => addresses?,
        };
        let faults = faults::look(stack.as_ref()).await;
        let mut services: Vec<_> =
            self.services.iter().map(|url| (url.clone(), url.clone())).collect();
        for process in stack.into_iter().flat_map(|file| file.processes) {
            services.extend(process.admin.map(|admin| (process.name, admin)));
        }
        let (account, transaction) = match databases {
            Some(urls) => (Some(urls.account), Some(urls.transaction)),
            None => (None, None),
        };
        let databases = join(
            postgres::account(account.as_deref()),
            postgres::transaction(transaction.as_deref()),
        );
        let services = join_all(services.iter().map(|(name, url)| services::look(name, url)));
        let (((account, transaction), nats), services) =
            join(join(databases, nats::look(nats.as_ref())), services).await;
        let checks: Vec<Check> =
            [faults, account, transaction, nats].into_iter().chain(services).flatten().collect();
        print(&checks, self.format.output)?;
        let measure = || {
            checks.iter().for_each(Check::measure);
            metrics::gauge!("passbook_doctor_last_run_timestamp_seconds").set(push::now());
        };
        let pushed = gateway.replace("passbook-doctor", measure).await;
        if checks.iter().any(Check::is_finding) {
            pushed.unwrap_or_else(|error| tracing::error!("{}", crate::causes(&error)));
            return Ok(ExitCode::FAILURE);
        }
        pushed?;
        Ok(ExitCode::SUCCESS)
    }
}
