//! Compares the records of the account-service with the ledger: each record is
//! applied at most once, outcomes are pinned, money is conserved, no record stays
//! PENDING, both sides agree, the chains of the ledger are whole, and the event log
//! tells everything once. `passbook verify` and the reconciliation report run the
//! same comparison.
//!
//! Each database is read in one pass in the order of its keys, and the two are
//! merged, so that memory does not grow with the data.
//!
//! The comparison is safe beside a running system. The snapshot of the
//! account-service's database is taken first, and every record settled in it was in
//! the ledger before. Newer transactions of the ledger are in flight and no finding.
//!
//! A snapshot keeps PostgreSQL from removing dead rows for as long as the comparison
//! takes. On a large database, replicas are read instead.

mod balances;
mod chain;
mod chains;
mod check;
mod dated;
mod document;
mod events;
mod findings;
pub mod movement_row;
mod ownership;
mod records;
pub mod rows;
mod sources;

use std::{io, time::Duration};

pub use chains::{Head, Heads, heads};
pub use check::{Check, Finding};
pub use dated::{DatedTable, check_tables};
pub use document::MAX_LISTED;
pub use findings::{Counts, Findings};
pub use sources::{Replicas, Schema, SnapshotError, Sources};

/// A database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the account database")]
    Accounts(#[source] sqlx::Error),
    #[error("the transaction database")]
    Ledger(#[source] sqlx::Error),
    #[error("the account database")]
    AccountSnapshot(#[source] SnapshotError),
    #[error("the transaction database")]
    LedgerSnapshot(#[source] SnapshotError),
    #[error("the exported heads")]
    Heads(#[source] io::Error),
}

/// What counts as a finding, and how many findings to keep.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a record may stay PENDING. The redrive sends each command again at
    /// least every 12.5 minutes.
    pub pending: Duration,
    /// Findings to keep for each check. All are counted.
    pub listed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pending: Duration::from_secs(15 * 60), listed: MAX_LISTED }
    }
}

/// A part of the work, and the number of its rows that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Records and transactions with the same id.
    Records(u64),
    /// Accounts of the ledger.
    Balances(u64),
    /// Accounts of the ledger whose chains were followed.
    Chains(u64),
    /// Events of the account-service's event log.
    Events(u64),
}

/// Compares both databases and returns what was found. Exported heads, if given, must be in the
/// chains of the ledger. The future may be dropped
/// before it completes.
///
/// # Errors
/// When a database can't be reached or read, or the heads can't be read.
pub async fn reconcile(
    sources: &Sources,
    limits: Limits,
    heads: Option<Heads<'_>>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Findings, Error> {
    let mut findings = Findings::new(limits.listed);
    let mut connections = sources.connect().await?;
    records::compare(&mut connections, limits.pending, progress, &mut findings).await?;
    balances::compare(&mut connections, progress, &mut findings).await?;
    chains::compare(&mut connections, heads, progress, &mut findings).await?;
    events::compare(&mut connections, progress, &mut findings).await?;
    ownership::compare(&mut connections, &mut findings).await?;
    let dated = dated::compare(&mut connections, sources.schema, &mut findings.dated);
    dated.await.map_err(Error::Accounts)?;
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    #[test]
    fn a_comparison_can_run_on_any_thread() {
        fn assert_send(_: impl Send) {}
        let options = PgConnectOptions::new_without_pgpass();
        let schema = Schema::Reporting;
        let replicas = Replicas::default();
        let sources = Sources { accounts: options.clone(), ledger: options, schema, replicas };
        assert_send(reconcile(&sources, Limits::default(), None, &mut |_| ()));
    }
}
