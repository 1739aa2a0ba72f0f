//! An account's entries in the ledger, by number and by time.
//!
//! Numbers are found by binary search over the unique index of account and number: times
//! rise with numbers. They do since this release. Releases before it took the time of an
//! entry before they waited for the account, so an entry can be up to one transaction's
//! duration older than the entry before it. Such an entry counts as applied at the time
//! of the earlier one, which is nearer to the truth: its time is the latest time of all
//! entries up to it. An instant then divides the entries before the first one with that
//! time or a later one from all others.

use contract::{Balance, Currency};
use report_document::Position;
use rust_decimal::Decimal;
use sqlx::{PgConnection, types::Uuid};
use time::{Duration, OffsetDateTime};

use super::StatementError;
use crate::{AccountInfo, Snapshot};

/// Entries read at once, some 200 bytes each.
const PAGE: i64 = 5_000;
/// How far a time may be before the time of an earlier entry. The longest transaction of
/// earlier releases is shorter.
pub(super) const TOLERANCE: Duration = Duration::seconds(60);

/// One account in a snapshot.
pub(super) struct History<'a> {
    snapshot: &'a mut PgConnection,
    info: &'a AccountInfo,
    account: Uuid,
    /// The highest number.
    last: i64,
}

/// An entry as the ledger has it.
#[derive(Debug, Clone)]
pub(super) struct EntryRow {
    pub(super) account_seq: i64,
    pub(super) id: i64,
    pub(super) record_id: Uuid,
    pub(super) kind: String,
    pub(super) amount: Decimal,
    pub(super) currency: String,
    pub(super) balance_after: Decimal,
    pub(super) created_at: OffsetDateTime,
}

impl<'a> History<'a> {
    /// The account's history, empty if the ledger has never seen the account. Its end is
    /// compared with the account's balance.
    pub(super) async fn new(
        snapshot: &'a mut Snapshot,
        info: &'a AccountInfo,
    ) -> Result<Self, StatementError> {
        let account = info.account_id.as_uuid();
        let row = sqlx::query!(
            r#"SELECT currency AS "currency!", balance AS "balance!", account_seq AS "account_seq!"
               FROM reporting.accounts WHERE account_id = $1"#,
            account
        )
        .fetch_optional(&mut **snapshot)
        .await?;
        let mut history = Self { snapshot, info, account, last: 0 };
        let Some(row) = row else { return Ok(history) };
        if row.currency != info.currency.code() {
            let finding =
                format!("it is in {}, but the ledger has {}", info.currency, row.currency);
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
    pub(super) async fn position(
        &mut self,
        at: OffsetDateTime,
    ) -> Result<Position, StatementError> {
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
        let balance = self.balance(account_seq).await?.as_decimal();
        Ok(Position { balance, account_seq })
    }

    /// A number up to `last` with a time before `at`, followed by a time of `at` or later.
    /// 0 and the number after the last one count as such times.
    async fn search(&mut self, at: OffsetDateTime, last: i64) -> Result<i64, StatementError> {
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

    async fn time(&mut self, account_seq: i64) -> Result<OffsetDateTime, StatementError> {
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

    async fn balance(&mut self, account_seq: i64) -> Result<Balance, StatementError> {
        if account_seq == 0 {
            return Ok(Balance::zero(self.info.currency));
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
        let invalid = || invalid_balance(balance, account_seq, self.info.currency);
        Balance::from_decimal(balance, self.info.currency)
            .ok_or_else(|| self.inconsistent(invalid()))
    }

    /// The next entries after the number `after`, up to the number `last`, in order.
    pub(super) async fn page(
        &mut self,
        after: i64,
        last: i64,
    ) -> Result<Vec<EntryRow>, StatementError> {
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

    fn missing(&self, account_seq: i64) -> StatementError {
        self.inconsistent(format!("the ledger has no accountSeq {account_seq}"))
    }

    fn inconsistent(&self, finding: String) -> StatementError {
        StatementError::Inconsistent { account: self.info.account_id, finding }
    }
}

pub(super) fn invalid_balance(balance: Decimal, account_seq: i64, currency: Currency) -> String {
    format!("the balance {balance} at accountSeq {account_seq} is no balance in {currency}")
}
