//! Checks the protocol's invariants over both databases: that each record was
//! applied once, that outcomes stayed, that money was conserved, that no record
//! stays PENDING, and that the records say what the ledger says; and over the
//! streams, that nothing was dropped.
//!
//! Both databases are read in one pass each, in the order of their keys, and
//! merged: memory does not grow with the data. It is safe beside a running
//! system. The account database's snapshot is taken first: what is settled in
//! it was in the ledger before. What is newer in the ledger is in flight and no
//! finding.

mod balances;
mod ownership;
mod records;
mod report;
mod streams;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use sqlx::PgConnection;

use crate::{
    broker::Broker,
    cli::{Addresses, System},
    database::{self, Urls},
    output::Format,
    push::{Gateway, Push},
};
use report::Report;
use streams::Look;

/// Check that the books balance: every invariant, in both databases and the
/// streams.
///
/// Exits with 1 when one is broken. Without URLs, the development stack is
/// checked; with those of the databases only, the streams are left out. Safe
/// beside a running system: what is in flight is no finding.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    system: System,
    /// Leave the streams out.
    #[arg(long)]
    no_streams: bool,
    /// How long a record may be PENDING before it counts as one that was not settled. The redrive
    /// sends a command again every ten minutes at the latest.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "15m")]
    pending_limit: Duration,
    #[command(flatten)]
    push: Push,
    #[command(flatten)]
    format: Format,
}

impl Verify {
    /// Checks, prints what was compared and found. Exit code 1 on a finding.
    ///
    /// # Errors
    /// If a database can't be read, or, with nothing found, the streams can't.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let gateway = self.push.gateway()?;
        let begun = Instant::now();
        let addresses = self.system.find().await?;
        let urls = addresses.databases.as_ref().context("no database URLs are given")?;
        let mut report = Report::default();
        compare_databases(urls, self.pending_limit, &mut report).await?;
        let streams = self.compare_streams(&addresses, urls, &mut report).await;
        if let Err(error) = &streams {
            report.streams.why = Some(crate::causes(error));
        }
        report.print(self.format.output)?;
        let pushed = tell(&gateway, &report, begun.elapsed(), streams.is_ok()).await;
        if report.has_findings() {
            pushed.unwrap_or_else(|error| tracing::error!("{}", crate::causes(&error)));
            return Ok(ExitCode::FAILURE);
        }
        streams.context("the streams")?;
        pushed?;
        Ok(ExitCode::SUCCESS)
    }

    async fn compare_streams(
        &self,
        addresses: &Addresses,
        urls: &Urls,
        report: &mut Report,
    ) -> Result<()> {
        let address = match &addresses.nats {
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
        let mut accounts = database::connect(&urls.account).await?;
        let mut ledger = database::connect(&urls.transaction).await?;
        Look { broker: &broker, accounts: &mut accounts, ledger: &mut ledger }.compare(report).await
    }
}

/// Two groups of metrics, since one may be known without the other.
async fn tell(gateway: &Gateway, report: &Report, took: Duration, complete: bool) -> Result<()> {
    let streams = match report.measure_streams() {
        Some(measure) => gateway.replace("passbook-verify/invariant/dropped", measure).await,
        None => Ok(()),
    };
    // That it was complete is told last, and only if all of it was.
    let complete = complete && streams.is_ok();
    let books = gateway.replace("passbook-verify", || report.measure(took, complete)).await;
    streams.and(books)
}

async fn compare_databases(urls: &Urls, limit: Duration, report: &mut Report) -> Result<()> {
    let mut accounts = snapshot(&urls.account).await.context("the account database")?;
    let mut ledger = snapshot(&urls.transaction).await.context("the transaction database")?;
    // Outside the snapshot, to look again for what was missing in it.
    let mut latest = database::connect(&urls.account).await.context("the account database")?;
    records::compare(&mut accounts, &mut ledger, &mut latest, limit, report).await?;
    balances::compare(&mut accounts, &mut ledger, &mut latest, report).await?;
    ownership::compare(&mut accounts, &mut ledger, report).await
}

/// A connection that sees the database as it is now, for as long as it lasts.
async fn snapshot(url: &str) -> Result<PgConnection> {
    let mut connection = database::connect(url).await?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}
