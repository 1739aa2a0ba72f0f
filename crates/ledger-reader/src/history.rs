//! An account's entries in the ledger, by number and by time.
//!
//! Numbers are found by binary search over the unique index of account and number: times
//! rise with numbers. They do since this release. Releases before it took the time of an
//! entry before they waited for the account, so an entry can be up to one transaction's
//! duration older than the entry before it. Such an entry counts as applied at the time
//! of the earlier one, which is nearer to the truth: its time is the latest time of all
//! entries up to it. An instant then divides the entries before the first one with that
//! time or a later one from all others.

use contract::{AccountId, Balance, Currency};
use rust_decimal::Decimal;
use sqlx::{PgConnection, types::Uuid};
use time::{Duration, OffsetDateTime};

use crate::{LedgerError, Snapshot};

/// Entries read at once, some 200 bytes each.
const PAGE: i64 = 5_000;
/// How far a time may be before the time of an earlier entry. The longest transaction of
/// earlier releases is shorter.
pub const TOLERANCE: Duration = Duration::seconds(60);

/// Why an account can't be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The entries contradict each other, the balance or the account.
    #[error("account {account}: {finding}")]
    Inconsistent {
        /// The account.
        account: AccountId,
        /// What contradicts what.
        finding: String,
    },
}

impl From<sqlx::Error> for HistoryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Ledger(error.into())
    }
}

/// A balance and its place in the account's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The balance.
    pub balance: Balance,
    /// The number of applied transactions until then.
    pub account_seq: i64,
}

/// One account in a snapshot.
#[derive(Debug)]
pub struct History<'a> {
    snapshot: &'a mut PgConnection,
    account_id: AccountId,
    currency: Currency,
    account: Uuid,
    /// The highest number.
    last: i64,
}

/// An entry as the ledger has it.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names of the columns")]
pub struct EntryRow {
    pub account_seq: i64,
    pub id: i64,
    pub record_id: Uuid,
    pub kind: String,
    pub amount: Decimal,
    pub currency: String,
    pub balance_after: Decimal,
    pub created_at: OffsetDateTime,
}

impl<'a> History<'a> {
    /// The account's history, empty if the ledger has never seen the account. Its end is
    /// compared with the account's balance.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub async fn new(
        snapshot: &'a mut Snapshot,
        account_id: AccountId,
        currency: Currency,
    ) -> Result<Self, HistoryError> {
        let account = account_id.as_uuid();
        let row = sqlx::query!(
            r#"SELECT currency AS "currency!", balance AS "balance!", account_seq AS "account_seq!"
               FROM reporting.accounts WHERE account_id = $1"#,
            account
        )
        .fetch_optional(&mut **snapshot)
        .await?;
        let mut history = Self { snapshot, account_id, currency, account, last: 0 };
        let Some(row) = row else { return Ok(history) };
        if row.currency != currency.code() {
            let finding = format!("it is in {currency}, but the ledger has {}", row.currency);
            return Err(history.inconsistent(finding));
        }
        history.last = row.account_seq;
        let end = history.balance(row.account_seq).await?;
        if end.as_decimal() != row.balance {
            let (seq, balance) = (row.account_seq, row.balance.normalize());
            let finding = format!("its balance is {balance}, but {end} at accountSeq {seq}");
            return Err(history.inconsistent(finding));
        }
        Ok(history)
    }

    /// The last entry before `at`, and the balance after it.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub async fn position(&mut self, at: OffsetDateTime) -> Result<Position, HistoryError> {
        let reached = self.search(at, self.last).await?;
        // Only from here on can an entry before `reached` have a time of `at` or later.
        let settled = self.search(at - TOLERANCE, reached).await?;
        let first = sqlx::query_scalar!(
            "SELECT min(account_seq) FROM reporting.transactions
             WHERE account_id = $1 AND account_seq > $2 AND account_seq <= $3 AND created_at >= $4",
            self.account,
            settled,
            reached,
            at
        )
        .fetch_one(&mut *self.snapshot)
        .await?;
        let account_seq = first.map_or(reached, |first| first - 1);
        let balance = self.balance(account_seq).await?;
        Ok(Position { balance, account_seq })
    }

    /// The time of the first entry; `None` without one.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub async fn first_time(&mut self) -> Result<Option<OffsetDateTime>, HistoryError> {
        if self.last == 0 { Ok(None) } else { self.time(1).await.map(Some) }
    }

    /// A number up to `last` with a time before `at`, followed by a time of `at` or later.
    /// 0 and the number after the last one count as such times.
    async fn search(&mut self, at: OffsetDateTime, last: i64) -> Result<i64, HistoryError> {
        let (mut before, mut after) = (0, last + 1);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.time(middle).await? < at {
                before = middle;
            } else {
                after = middle;
            }
        }
        Ok(before)
    }

    async fn time(&mut self, account_seq: i64) -> Result<OffsetDateTime, HistoryError> {
        let time = sqlx::query_scalar!(
            r#"SELECT created_at AS "created_at!" FROM reporting.transactions
               WHERE account_id = $1 AND account_seq = $2"#,
            self.account,
            account_seq
        )
        .fetch_optional(&mut *self.snapshot)
        .await?;
        time.ok_or_else(|| self.missing(account_seq))
    }

    async fn balance(&mut self, account_seq: i64) -> Result<Balance, HistoryError> {
        if account_seq == 0 {
            return Ok(Balance::zero(self.currency));
        }
        let balance = sqlx::query_scalar!(
            r#"SELECT balance_after AS "balance_after!" FROM reporting.transactions
               WHERE account_id = $1 AND account_seq = $2"#,
            self.account,
            account_seq
        )
        .fetch_optional(&mut *self.snapshot)
        .await?;
        let balance = balance.ok_or_else(|| self.missing(account_seq))?;
        let invalid = || invalid_balance(balance, account_seq, self.currency);
        Balance::from_decimal(balance, self.currency).ok_or_else(|| self.inconsistent(invalid()))
    }

    /// The next entries after the number `after`, up to the number `last`, in order.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub async fn page(&mut self, after: i64, last: i64) -> Result<Vec<EntryRow>, HistoryError> {
        if after >= last {
            return Ok(Vec::new());
        }
        let rows = sqlx::query_as!(
            EntryRow,
            r#"SELECT account_seq AS "account_seq!", id AS "id!", record_id AS "record_id!",
                      type AS "kind!", amount AS "amount!", currency AS "currency!",
                      balance_after AS "balance_after!", created_at AS "created_at!"
               FROM reporting.transactions
               WHERE account_id = $1 AND account_seq > $2 AND account_seq <= $3
               ORDER BY account_seq"#,
            self.account,
            after,
            last.min(after.saturating_add(PAGE))
        )
        .fetch_all(&mut *self.snapshot)
        .await?;
        if rows.is_empty() { Err(self.missing(after + 1)) } else { Ok(rows) }
    }

    fn missing(&self, account_seq: i64) -> HistoryError {
        self.inconsistent(format!("the ledger has no accountSeq {account_seq}"))
    }

    fn inconsistent(&self, finding: String) -> HistoryError {
        HistoryError::Inconsistent { account: self.account_id, finding }
    }
}

/// What to say about a balance that the currency does not allow.
#[must_use]
pub fn invalid_balance(balance: Decimal, account_seq: i64, currency: Currency) -> String {
    format!("the balance {balance} at accountSeq {account_seq} is no balance in {currency}")
}
