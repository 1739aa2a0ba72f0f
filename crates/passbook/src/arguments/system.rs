//! The system to examine or change: one at given URLs or, in a checkout, the development stack.

#[cfg(feature = "dev")]
use anyhow::Context;
use anyhow::Result;
use clap::Args;
#[cfg(feature = "dev")]
use devstack::StackFile;
use futures::future::{join, join_all};

use super::nats::NatsArguments;
#[cfg(feature = "dev")]
use super::stack_dir::StackDir;
use crate::{
    broker::{Address, Broker},
    database::{self, DatabaseUrls},
    retry::Retry,
};

/// The system to work on.
#[derive(Debug, Clone, Args)]
pub(crate) struct SystemArguments {
    #[cfg(feature = "dev")]
    #[command(flatten)]
    dir: StackDir,
    /// URL of the account-service's database.
    #[cfg_attr(
        feature = "dev",
        doc = "Without any URL, the command works on the development stack in DIR."
    )]
    #[arg(
        long,
        value_name = "URL",
        env = "PASSBOOK_ACCOUNT_DATABASE_URL",
        hide_env_values = true,
        requires = "transaction_database_url"
    )]
    account_database_url: Option<String>,
    /// URL of the transaction-service's database.
    #[arg(
        long,
        value_name = "URL",
        env = "PASSBOOK_TRANSACTION_DATABASE_URL",
        hide_env_values = true,
        requires = "account_database_url"
    )]
    transaction_database_url: Option<String>,
    /// URL of the report-service's database, for `verify` and `doctor`.
    #[arg(long, value_name = "URL", env = "PASSBOOK_REPORT_DATABASE_URL", hide_env_values = true)]
    report_database_url: Option<String>,
    #[command(flatten)]
    nats: NatsArguments,
    #[command(flatten)]
    retry: Retry,
}

/// The addresses of a system.
#[derive(Debug, Default)]
pub(crate) struct System {
    pub(crate) databases: Option<DatabaseUrls>,
    /// URL of the report-service's database.
    pub(crate) report_database: Option<String>,
    pub(crate) nats: Option<Address>,
    /// The development stack at these addresses.
    #[cfg(feature = "dev")]
    pub(crate) stack: Option<StackFile>,
}

impl System {
    /// Names and admin addresses of the service processes. Only a development stack knows them.
    #[cfg(feature = "dev")]
    pub(crate) fn processes(&self) -> Vec<(String, String)> {
        let processes = self.stack.iter().flat_map(|stack| &stack.processes);
        processes
            .filter_map(|process| Some((process.name.clone(), process.admin.clone()?)))
            .collect()
    }

    /// Monitoring URLs of the servers of NATS. Only a development stack knows them.
    #[cfg(feature = "dev")]
    pub(crate) fn monitors(&self) -> Vec<String> {
        let processes = self.stack.iter().flat_map(|stack| &stack.processes);
        processes.filter_map(|process| process.monitor.clone()).collect()
    }

    /// No servers: only a development stack knows its own.
    #[cfg(not(feature = "dev"))]
    pub(crate) const fn monitors(&self) -> Vec<String> {
        Vec::new()
    }

    /// No processes: only a development stack knows its own.
    #[cfg(not(feature = "dev"))]
    pub(crate) const fn processes(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

impl SystemArguments {
    /// The system at the given URLs or, without any URL, the development stack. The two are never
    /// mixed, because different systems do not agree.
    ///
    /// With `--wait`, returns once the servers accept connections or the time is over.
    ///
    /// # Errors
    /// When no URL is given and no development stack runs, or a URL is malformed.
    pub(crate) async fn resolve(&self) -> Result<System> {
        let system = self.addresses()?;
        if self.retry.is_enabled() {
            self.wait_for(&system).await?;
        }
        Ok(system)
    }

    fn addresses(&self) -> Result<System> {
        let urls = self.account_database_url.clone().zip(self.transaction_database_url.clone());
        let databases = urls.map(|(account, transaction)| DatabaseUrls { account, transaction });
        let nats = self.nats.address();
        let report_database = self.report_database_url.clone();
        if databases.is_some() || nats.is_some() || report_database.is_some() {
            return Ok(System {
                databases,
                report_database,
                nats,
                #[cfg(feature = "dev")]
                stack: None,
            });
        }
        self.development_stack()
    }

    #[cfg(feature = "dev")]
    fn development_stack(&self) -> Result<System> {
        let stack = self.dir.running_stack().context("no URLs are given")?;
        let databases = DatabaseUrls {
            account: stack.databases.account.clone(),
            transaction: stack.databases.transaction.clone(),
        };
        let nats = Address::new(stack.nats.clone(), None);
        Ok(System {
            databases: Some(databases),
            report_database: Some(stack.databases.report.clone()),
            nats: Some(nats),
            stack: Some(stack),
        })
    }

    #[cfg(not(feature = "dev"))]
    fn development_stack(&self) -> Result<System> {
        anyhow::bail!(
            "no URLs are given: give --account-database-url with --transaction-database-url, \
             --nats-url, or all three"
        )
    }

    /// Waits for the servers. A server still unreachable at the deadline is not an error here: the
    /// command connects again and reports the failure.
    async fn wait_for(
        &self,
        System { databases, report_database, nats, .. }: &System,
    ) -> Result<()> {
        let databases: Vec<_> = databases
            .iter()
            .flat_map(|urls| [&urls.account, &urls.transaction])
            .chain(report_database)
            .collect();
        databases.iter().try_for_each(|url| database::options(url).map(drop))?;
        nats.iter().try_for_each(|address| address.servers().map(drop))?;
        let databases = databases.into_iter().map(async |url| {
            self.retry.until_ok("PostgreSQL", || database::connect_limited(url)).await.map(drop)
        });
        let nats = nats.iter().map(async |address| {
            self.retry.until_ok("NATS", || Broker::connect(address)).await.map(drop)
        });
        join(join_all(databases), join_all(nats)).await;
        Ok(())
    }
}
