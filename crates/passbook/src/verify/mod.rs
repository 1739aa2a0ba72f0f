//! Checks the protocol's invariants over both databases: that each record was
//! applied once, that outcomes stayed, that money was conserved, and that the
//! records say what the ledger says.
//!
//! Both databases are read in one pass each, in the order of their keys, and
//! merged: memory does not grow with the data. It is safe beside a running
//! system. The account database's snapshot is taken first: what is settled in
//! it was in the ledger before. What is newer in the ledger is in flight and no
//! finding.

mod balances;
mod records;
mod report;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use sqlx::PgConnection;

use crate::{cli::System, database, output::Format};
use report::Report;

/// Check that the books balance: every invariant of the ledger, in both
/// databases.
///
/// Exits with 1 when one is broken. Without URLs, the development stack is
/// checked.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    format: Format,
}

impl Verify {
    /// Checks, prints what was compared and found. Exit code 1 on a finding.
    ///
    /// # Errors
    /// If a database can't be read.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let urls = self.system.find()?.databases.context("no database URLs are given")?;
        let mut accounts = snapshot(&urls.account).await.context("the account database")?;
        let mut ledger = snapshot(&urls.transaction).await.context("the transaction database")?;
        // Outside the snapshot, to look again for what was missing in it.
        let mut latest = database::connect(&urls.account).await.context("the account database")?;
        let mut report = Report::default();
        records::compare(&mut accounts, &mut ledger, &mut latest, &mut report).await?;
        balances::compare(&mut accounts, &mut ledger, &mut latest, &mut report).await?;
        report.print(self.format.output)?;
        Ok(ExitCode::from(u8::from(report.has_findings())))
    }
}

/// A connection that sees the database as it is now, for as long as it lasts.
async fn snapshot(url: &str) -> Result<PgConnection> {
    let mut connection = database::connect(url).await?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}
