//! Compares the ledger's balances with its transactions, and the account-service's projected
//! balances with the ledger's. Merged by account id.

use std::fmt;

use anyhow::Result;
use futures::TryStreamExt;
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::report::Report;

/// A balance projected by the account-service from results.
#[derive(Debug, FromRow)]
struct ProjectedBalance {
    account_id: Uuid,
    currency: String,
    balance: Decimal,
    account_seq: i64,
}

/// An account of the ledger with one of its applied transactions, if it has any.
#[derive(Debug, FromRow)]
struct LedgerRow {
    account_id: Uuid,
    currency: String,
    balance: Decimal,
    account_seq: i64,
    seq: Option<i64>,
    r#type: Option<String>,
    amount: Option<Decimal>,
    transaction_currency: Option<String>,
    balance_after: Option<Decimal>,
}

/// `150 KRW at accountSeq 2`
impl fmt::Display for ProjectedBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (balance, seq) = (self.balance.normalize(), self.account_seq);
        write!(f, "{balance} {} at accountSeq {seq}", self.currency)
    }
}

/// The balance after the transaction: `150 KRW at accountSeq 2`
impl fmt::Display for LedgerRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let balance = self.balance_after.unwrap_or_default().normalize();
        let currency = self.transaction_currency.as_deref().unwrap_or_default();
        write!(f, "{balance} {currency} at accountSeq {}", self.seq.unwrap_or_default())
    }
}

/// The running sum of an account's applied transactions.
struct RunningBalance {
    account_id: Uuid,
    sum: Decimal,
    seq: i64,
    /// The first finding about the account's transactions.
    finding: Option<String>,
    /// The projected balance, until its `account_seq` is reached.
    projected: Option<ProjectedBalance>,
}

/// Reads both sides in the order of their account ids, and compares each account.
///
/// `latest` sees commits after the snapshots of `accounts` and `ledger`.
pub(super) async fn compare(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    latest: &mut PgConnection,
    report: &mut Report,
) -> Result<()> {
    let mut projections = sqlx::query_as::<_, ProjectedBalance>(
        "SELECT account_id, currency, balance, account_seq FROM accounts ORDER BY account_id",
    )
    .fetch(accounts);
    let mut rows = sqlx::query_as::<_, LedgerRow>(
        "SELECT a.account_id, a.currency, a.balance, a.account_seq, t.account_seq AS seq, t.type,
                t.amount, t.currency AS transaction_currency, t.balance_after
         FROM accounts a
         LEFT JOIN transactions t ON t.account_id = a.account_id AND t.status = 'SUCCESS'
         ORDER BY a.account_id, t.account_seq",
    )
    .fetch(ledger);
    let mut projection = projections.try_next().await?;
    let mut row = rows.try_next().await?;
    while let Some(first) = row.take() {
        let id = first.account_id;
        // The ledger does not know these accounts yet, so no money may have moved.
        while let Some(unknown) = projection.take_if(|projected| projected.account_id < id) {
            report.projected.count(moved_without_ledger(&unknown));
            projection = projections.try_next().await?;
        }
        let projected = projection.take_if(|projected| projected.account_id == id);
        let has_projection = projected.is_some();
        if has_projection {
            projection = projections.try_next().await?;
        }
        let mut balance = RunningBalance::new(id, projected);
        balance.compare_start(&first, report);
        let mut last = first;
        loop {
            balance.add(&last, report);
            row = rows.try_next().await?;
            match row.take_if(|row| row.account_id == id) {
                Some(next) => last = next,
                None => break,
            }
        }
        // An account missing from the snapshot may have been opened since.
        let is_opened = has_projection || account_exists(latest, id).await?;
        balance.finish(&last, is_opened, report);
    }
    while let Some(unknown) = projection {
        report.projected.count(moved_without_ledger(&unknown));
        projection = projections.try_next().await?;
    }
    Ok(())
}

async fn account_exists(latest: &mut PgConnection, id: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM accounts WHERE account_id = $1)")
        .bind(id)
        .fetch_one(latest)
        .await?)
}

fn moved_without_ledger(projected: &ProjectedBalance) -> Option<String> {
    let moved = projected.account_seq != 0 || !projected.balance.is_zero();
    moved.then(|| {
        format!("account {} shows {projected}, the ledger has nothing", projected.account_id)
    })
}

impl RunningBalance {
    const fn new(account_id: Uuid, projected: Option<ProjectedBalance>) -> Self {
        Self { account_id, sum: Decimal::ZERO, seq: 0, finding: None, projected }
    }

    /// Compares a projection at `account_seq` 0: a balance before the first transaction.
    fn compare_start(&mut self, ledger: &LedgerRow, report: &mut Report) {
        if let Some(projected) = self.projected.take_if(|projected| projected.account_seq == 0) {
            let is_sound = projected.balance.is_zero() && projected.currency == ledger.currency;
            report
                .projected
                .count((!is_sound).then(|| {
                    format!("account {} shows {projected} at its start", self.account_id)
                }));
            report.behind += u64::from(ledger.account_seq > 0);
        }
    }

    /// Adds a transaction, and compares the projection at its `account_seq`.
    fn add(&mut self, row: &LedgerRow, report: &mut Report) {
        let (Some(seq), Some(amount)) = (row.seq, row.amount) else { return };
        self.sum += if row.r#type.as_deref() == Some("DEPOSIT") { amount } else { -amount };
        self.seq += 1;
        let follows = seq == self.seq
            && row.balance_after == Some(self.sum)
            && self.sum >= Decimal::ZERO
            && row.transaction_currency.as_ref() == Some(&row.currency);
        if !follows && self.finding.is_none() {
            self.finding = Some(format!(
                "account {}: expected {} {} at accountSeq {}, but there is {row}",
                self.account_id,
                self.sum.normalize(),
                row.currency,
                self.seq
            ));
        }
        if let Some(projected) = self.projected.take_if(|projected| projected.account_seq == seq) {
            let is_same =
                row.balance_after == Some(projected.balance) && projected.currency == row.currency;
            report.projected.count((!is_same).then(|| {
                format!("account {} shows {projected}, the ledger has {row}", self.account_id)
            }));
            report.behind += u64::from(row.account_seq > seq);
        }
    }

    /// Compares the sum with the account's balance, and the existence of the account.
    fn finish(mut self, ledger: &LedgerRow, is_opened: bool, report: &mut Report) {
        let id = self.account_id;
        if self.finding.is_none() && (ledger.balance, ledger.account_seq) != (self.sum, self.seq) {
            self.finding = Some(format!(
                "account {id}: {} transactions add up to {}, but the account has accountSeq {} and \
                 balance {}",
                self.seq, self.sum, ledger.account_seq, ledger.balance
            ));
        }
        report.conserved.count(self.finding);
        if let Some(projected) = self.projected {
            let finding = format!("account {id} shows {projected}, which never was");
            report.projected.count(Some(finding));
        } else if !is_opened {
            // A forged command can create an account in the ledger that nobody opened.
            let moved = self.seq > 0;
            let finding = || format!("account {id} has money and is no account");
            report.projected.count(moved.then(finding));
        }
    }
}
