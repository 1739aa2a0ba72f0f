//! Reads of the ledger, for requests that ask for them.
//!
//! No path of money depends on the ledger's database: without it, these requests fail, and
//! nothing else. Nothing that is read here is stored.
//!
//! An account is read in this order: the ledger's balance, the PENDING records, and which of these
//! the ledger's same snapshot has decided. So a withdrawal is in the balance, or counts as PENDING;
//! see `store::pending_amounts`.

use std::{future::Future, time::Duration};

use anyhow::Context;
use contract::{AccountId, Currency, TransactionResult};
use ledger::{Effect, effect_of};
use ledger_reader::{History, HistoryError, Ledger, LedgerAccount, LedgerError, Position};
use runtime::{
    postgres::{self, CallError, PgPool},
    setting::Secret,
};
use time::OffsetDateTime;

use crate::{
    record::Record,
    store::{self, Account, LedgerBalance, PendingAmounts, SeenInLedger, StoreError},
};

/// The setting with the ledger's URL.
pub const SETTING: &str = "PASSBOOK_LEDGER_URL";
/// Time limit for a read.
const LIMIT: Duration = Duration::from_secs(5);
/// Time limit for an instant to be final.
const PATIENCE: Duration = Duration::from_secs(3);
/// How far an instant may be ahead of the ledger's clock: clocks differ. It is waited for.
const CLOCK_DIFFERENCE: time::Duration = time::Duration::seconds(2);
/// The unit of the ledger's times.
const MICROSECOND: time::Duration = time::Duration::microseconds(1);
/// Maximum PENDING records of an account that are looked up in the ledger, the oldest first. More
/// of them count as PENDING, even if the ledger has decided them.
const MAX_LOOKED_UP: u16 = 1_000;

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The instant is in the future.
    #[error("it is {0} by the ledger's clock")]
    Future(OffsetDateTime),
    /// The ledger's database.
    #[error(transparent)]
    Ledger(#[from] HistoryError),
    /// The service's own database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        Self::Ledger(error.into())
    }
}

impl From<LedgerError> for ReadError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error.into())
    }
}

impl ReadError {
    /// Whether a later read can succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Future(_) => true,
            Self::Store(error) => error.is_transient(),
            Self::Ledger(HistoryError::Inconsistent { .. }) => false,
            Self::Ledger(HistoryError::Ledger(LedgerError::Database(error))) => {
                postgres::is_transient(error)
            }
            Self::Ledger(HistoryError::Ledger(_)) => true,
        }
    }
}

/// A balance, and the instant that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceAt {
    pub position: Position,
    pub at: OffsetDateTime,
}

/// The ledger, for requests.
#[derive(Debug, Clone)]
pub struct LedgerReads(Ledger);

impl LedgerReads {
    /// The ledger at this URL. Connects on first use.
    ///
    /// # Errors
    /// If the URL is malformed.
    pub fn new(url: &Secret) -> anyhow::Result<Self> {
        Ok(Self(Ledger::for_requests(url.expose()).context(SETTING)?))
    }

    /// The balance at an instant, after all movements with an earlier time: a later call for the
    /// same instant gives the same balance. Without an instant, the present balance, with every
    /// movement that is committed. Its instant is just after its last movement: a movement that
    /// commits later has a later time, because the time is taken under the account's lock. The
    /// present time would be no such instant: a movement may have got its time, and not be
    /// committed.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn balance_at(
        &self,
        account: AccountId,
        currency: Currency,
        at: Option<OffsetDateTime>,
    ) -> Result<BalanceAt, ReadError> {
        self.limited(async {
            let Some(at) = at else {
                let account = LedgerAccount::find(&self.0, account, currency).await?;
                let moved_at = account.moved_at();
                let at = moved_at.map_or(OffsetDateTime::UNIX_EPOCH, |at| at + MICROSECOND);
                return Ok(BalanceAt { position: account.position(), at });
            };
            let now = self.0.now().await?;
            if at - now > CLOCK_DIFFERENCE {
                return Err(ReadError::Future(now));
            }
            let mut snapshot = self.0.snapshot(at, PATIENCE).await?;
            let mut history = History::new(&mut snapshot, account, currency).await?;
            Ok(BalanceAt { position: history.position(at).await?, at })
        })
        .await
    }

    /// The record with the ledger's decision, if it is PENDING and the ledger has decided it.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn with_decision(&self, record: Record) -> Result<Record, ReadError> {
        if record.settlement.is_some() {
            return Ok(record);
        }
        let decision = self.limited(async { Ok(self.0.decision(record.id).await?) }).await?;
        Ok(match decision {
            Some(decision) => decided(record, &decision),
            None => record,
        })
    }

    /// The account with the ledger's balance, and its amounts that are PENDING in the ledger.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn account(
        &self,
        pool: &PgPool,
        id: AccountId,
        currency: Currency,
    ) -> Result<Option<(Account, PendingAmounts)>, ReadError> {
        self.limited(async {
            let mut ledger = LedgerAccount::find(&self.0, id, currency).await?;
            let Position { balance, account_seq } = ledger.position();
            let balance =
                ledger.moved_at().map(|moved_at| LedgerBalance { balance, account_seq, moved_at });
            let mut seen = SeenInLedger { balance, decided: Vec::new(), names: MAX_LOOKED_UP };
            let found = store::find_account_beside_ledger(pool, id, &seen).await?;
            let Some(found) = found else { return Ok(None) };
            if !found.pending.is_empty() {
                seen.decided = ledger.decided(&found.pending).await?;
            }
            if seen.decided.is_empty() {
                return Ok(Some((found.account, found.amounts)));
            }
            seen.names = 0;
            let found = store::find_account_beside_ledger(pool, id, &seen).await?;
            Ok(found.map(|found| (found.account, found.amounts)))
        })
        .await
    }

    async fn limited<T>(
        &self,
        read: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let read = tokio::time::timeout(LIMIT, read).await;
        let read = read.unwrap_or_else(|_| Err(LedgerError::NoAnswer(LIMIT).into()));
        if let Err(ReadError::Ledger(HistoryError::Ledger(LedgerError::Database(error)))) = &read {
            self.0.pool().note(error);
        }
        read
    }
}

/// A PENDING record as its result will settle it.
fn decided(record: Record, decision: &TransactionResult) -> Record {
    match effect_of(record.movement(), record.settlement, decision) {
        Effect::Settles(settlement) => Record {
            settlement: Some(settlement),
            account_seq: store::account_seq(decision.outcome),
            updated_at: record.created_at.max(decision.processed_at),
            ..record
        },
        Effect::None => record,
        Effect::Contradicts(contradiction) => {
            tracing::error!(record.id = %record.id, "the ledger's decision: {contradiction}");
            record
        }
    }
}
