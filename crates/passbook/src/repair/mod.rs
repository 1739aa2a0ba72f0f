//! `passbook repair`: restores outcomes lost by a ledger that came back from a backup, or that
//! failed over to a standby without the last commits. Lists transactions whose records are lost.
//!
//! The settled records of the account-service still hold the lost outcomes. The repair books them
//! again as they were: same transaction id, same balance, same order. A second decision could end
//! differently, and clients already have the first answer.
//!
//! Compares by record id and follows each account from its restored balance through the lost
//! movements in the order of their transaction ids. For each account, stops at the first movement
//! that does not add up. Everything happens in one transaction under a lock on the ledger's tables,
//! except the id sequence, which never decreases.

mod rebook;
mod report;
mod unrecorded;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use contract::{TRANSACTION_RESULT, consumers};
use rebook::rebook;

use crate::{
    arguments::SystemArguments,
    broker::{self, Address, Broker},
    database,
    output::Format,
};

/// Book outcomes again after the ledger was restored from a backup, or lost its last commits.
///
/// The account-service's database must hold everything since the backup. Without --yes, the command
/// only shows its plan. Stop the transaction-service before, and let the account-service settle
/// every result in its stream. PENDING records are left alone, because their commands are sent
/// again. Exits with 1 and a list when outcomes can't be booked, or when transactions have no
/// record. Those can't be mended here: the ledger knows neither the key nor the requester.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Book the outcomes.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    system: SystemArguments,
    #[command(flatten)]
    format: Format,
}

impl Repair {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let system = self.system.resolve().await?;
        let urls = system.databases.context("no database URLs are given")?;
        let mut accounts =
            database::connect(&urls.account).await.context("the account database")?;
        let ledger = database::connect(&urls.transaction).await;
        let mut ledger = ledger.context("the transaction database")?;
        let connected = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND usename = 'transaction_service'";
        let connected: i64 = sqlx::query_scalar(connected).fetch_one(&mut ledger).await?;
        ensure!(
            connected == 0,
            "the transaction-service is connected to the ledger: stop it first, all replicas"
        );
        if let Some(address) = &system.nats {
            ensure_results_settled(address).await?;
        }
        let report = rebook(&mut accounts, &mut ledger, self.yes).await?;
        report.print(self.format.output)?;
        Ok(ExitCode::from(u8::from(report.has_findings())))
    }
}

/// Requires an empty backlog of results. A result settled later would be one more lost outcome, and
/// the ledger could have given its transaction id to another record by then.
async fn ensure_results_settled(address: &Address) -> Result<()> {
    let broker = Broker::connect(address).await?;
    let Some(stream) = broker.stream(TRANSACTION_RESULT).await? else { return Ok(()) };
    let info = broker::consumer(&stream, consumers::ACCOUNT_RESULT).await?;
    // Without the consumer, all messages count: a new consumer starts at the first one.
    let messages = stream.cached_info().state.messages;
    let (pending, unacked) =
        info.map_or((messages, 0), |info| (info.num_pending, info.num_ack_pending));
    ensure!(
        pending == 0 && unacked == 0,
        "the account-service has still to settle results: {pending} messages undelivered, \
         {unacked} unacked. Let it run until there are none. If both databases were restored, purge \
         {TRANSACTION_RESULT} first"
    );
    Ok(())
}
