//! Checks the streams: every message is processed, in flight or kept as a dead letter.
//!
//! Only messages up to a consumer's ack floor are checked, because the consumer is done with them.
//! A suspect is checked again after a pause, because its dead letter or its advisory may be on its
//! way. The streams are read in batches, and the suspects are compared with the dead letters a few
//! thousand at a time. So memory does not grow with either.

mod commands;
mod dead_letters;
mod results;

use std::time::Duration;

use anyhow::Result;
use sqlx::PgConnection;

use super::report::Report;
use crate::broker::Broker;

/// Messages in memory at once.
const BATCH: usize = 500;
/// Suspects in memory at once.
const MAX_SUSPECTS: usize = 5_000;
/// The time for a message to become a dead letter, directly or through an advisory.
const RECHECK_AFTER: Duration = Duration::from_secs(2);

/// Checks all streams of movements, and counts their contents.
///
/// # Errors
/// When the broker or a database can't be read. The report stays incomplete then.
pub(super) async fn verify(
    broker: &Broker,
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    report: &mut Report,
) -> Result<()> {
    results::verify(broker, accounts, ledger, report).await?;
    commands::verify(broker, report).await?;
    dead_letters::count_open(broker, &mut report.streams).await?;
    report.streams.checked = true;
    Ok(())
}
