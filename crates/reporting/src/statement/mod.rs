//! The statement of one account: its balances at both ends of a period, and every entry
//! between them.
//!
//! The entries of a period have consecutive numbers, so the period is first translated
//! into a first and a last number (`history`). The entries are then read in pages, each
//! is checked against the one before it (`running`), and written to a file. So the
//! memory does not grow with the number of entries.

mod running;

use std::{io, ops::ControlFlow, time::Duration};

use contract::{AccountId, RecordId};
use ledger_reader::{History, HistoryError, READ_LIMIT, limited};
use report_document::{EntryWriter, Position, Statement, TEMPLATE};
use time::OffsetDateTime;

use crate::{AccountInfo, Accounts, LabelsError, Ledger, LedgerError, Period};
use running::Running;

/// Why there is no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The time of an entry is more than a minute before the time of an earlier entry, so
    /// it is unknown which of the two belongs to a period. An earlier release wrote them
    /// while the clock of its database was changed.
    #[error(
        "account {account}: the time of accountSeq {account_seq} is {at}, but by the entries around \
         it, it is from {from} to {to}"
    )]
    TimesRunBackwards {
        /// The account.
        account: AccountId,
        /// The number of the entry.
        account_seq: i64,
        /// Its time.
        at: OffsetDateTime,
        /// The latest time of the entries before it, or the start of the period.
        from: OffsetDateTime,
        /// The end of the period.
        to: OffsetDateTime,
    },
    /// The entries contradict each other, the balance or the account.
    #[error("account {account}: {finding}")]
    Inconsistent {
        /// The account.
        account: AccountId,
        /// What contradicts what.
        finding: String,
    },
    /// The labels of the records could not be read.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// The file with the entries could not be written.
    #[error("writing the entries of the statement")]
    Write(#[source] io::Error),
    /// The callback asked to stop.
    #[error("stopped")]
    Stopped,
}

impl From<sqlx::Error> for StatementError {
    fn from(error: sqlx::Error) -> Self {
        Self::Ledger(error.into())
    }
}

impl From<HistoryError> for StatementError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Ledger(error) => Self::Ledger(error),
            HistoryError::Inconsistent { account, finding } => {
                Self::Inconsistent { account, finding }
            }
        }
    }
}

impl StatementError {
    /// Whether every later attempt fails too, until somebody has repaired the ledger.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        matches!(self, Self::TimesRunBackwards { .. } | Self::Inconsistent { .. })
    }
}

/// Where a statement is read.
#[derive(Debug, Clone, Copy)]
pub struct StatementSources<'a> {
    /// The entries.
    pub ledger: &'a Ledger,
    /// Their labels.
    pub accounts: &'a Accounts,
}

/// The entries written so far, and all entries of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// The account's balance at an instant: after all entries with an earlier time. Entries
/// that are not committed yet are missing.
///
/// # Errors
/// [`StatementError`]
pub async fn position(
    ledger: &Ledger,
    info: &AccountInfo,
    at: OffsetDateTime,
) -> Result<Position, StatementError> {
    let mut snapshot = ledger.current().await?;
    let position = limited(READ_LIMIT, async {
        let mut history = History::new(&mut snapshot, info.account_id, info.currency).await?;
        history.position(at).await
    });
    Ok(document(position.await?))
}

/// When the account was opened, or when its first movement was, if that is earlier: the database's
/// clock was ahead at the opening.
///
/// # Errors
/// [`StatementError`]
pub async fn opened_at(
    ledger: &Ledger,
    info: &AccountInfo,
) -> Result<OffsetDateTime, StatementError> {
    let mut snapshot = ledger.current().await?;
    let first = limited(READ_LIMIT, async {
        let mut history = History::new(&mut snapshot, info.account_id, info.currency).await?;
        history.first_time().await
    });
    Ok(first.await?.map_or(info.created_at, |first| first.min(info.created_at)))
}

fn document(position: ledger_reader::Position) -> Position {
    Position { balance: position.balance.as_decimal(), account_seq: position.account_seq }
}

/// Computes the statement of a period, and writes its entries. Waits until the period is
/// final, at most `patience`. `progress` is called after each page of entries.
///
/// # Errors
/// [`StatementError`]. The file then holds a part of the entries.
pub async fn statement(
    StatementSources { ledger, accounts }: StatementSources<'_>,
    info: &AccountInfo,
    period: &Period,
    issuer: &str,
    patience: Duration,
    mut writer: EntryWriter,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Statement, StatementError> {
    let mut snapshot = ledger.snapshot(period.to(), patience).await?;
    let history = History::new(&mut snapshot, info.account_id, info.currency);
    let mut history = limited(READ_LIMIT, history).await?;
    let opening = document(limited(READ_LIMIT, history.position(period.from())).await?);
    let closing = document(limited(READ_LIMIT, history.position(period.to())).await?);
    let mut running = Running::new(info, period, opening);
    let total = u64::try_from(closing.account_seq - opening.account_seq).unwrap_or_default();
    loop {
        let page = history.page(running.position().account_seq, closing.account_seq);
        let page = limited(READ_LIMIT, page).await?;
        if page.is_empty() {
            break;
        }
        let records: Vec<_> = page.iter().map(|row| RecordId::from_uuid(row.record_id)).collect();
        let mut labels = accounts.labels(&records).await?;
        let entries = page.into_iter().zip(records);
        let entries = entries
            .map(|(row, record)| running.add(row, labels.remove(&record).unwrap_or_default()));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        writer = write(writer, entries).await.map_err(StatementError::Write)?;
        if progress(Progress { done: running.entries(), total }).is_break() {
            return Err(StatementError::Stopped);
        }
    }
    running.check_end(closing)?;
    tokio::task::spawn_blocking(|| writer.finish())
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(StatementError::Write)?;
    Ok(Statement {
        template: TEMPLATE,
        issuer: issuer.to_owned(),
        account_id: info.account_id,
        owner_id: info.owner_id.clone(),
        currency: info.currency.code().to_owned(),
        exponent: info.currency.exponent(),
        period: period.document(),
        opening,
        closing,
        credits: running.credits(),
        debits: running.debits(),
    })
}

/// A disk can block for long, so it is written outside the async threads.
async fn write(
    mut writer: EntryWriter,
    entries: Vec<report_document::Entry>,
) -> io::Result<EntryWriter> {
    tokio::task::spawn_blocking(move || {
        entries.iter().try_for_each(|entry| writer.write(entry))?;
        Ok(writer)
    })
    .await
    .unwrap_or_else(|error| Err(io::Error::other(error)))
}
