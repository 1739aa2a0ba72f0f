//! Compares the ledger's balances with its transactions, and the account-service's projected
//! balances with the ledger's. Merged by account id.

use std::fmt;

use futures::TryStream;
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    Error, Progress, check::Finding, dated::in_the_future, findings::Findings, rows,
    sources::Connections,
};

/// A balance projected by the account-service from results.
#[derive(Debug, FromRow)]
struct ProjectedBalance {
    account_id: Uuid,
    currency: String,
    balance: Decimal,
    account_seq: i64,
    /// Of the account, in seconds.
    age: i64,
}

/// An account of the ledger with one of its applied transactions, if it has any.
#[derive(Debug, FromRow)]
struct LedgerRow {
    account_id: Uuid,
    currency: String,
    balance: Decimal,
    account_seq: i64,
    /// Of the account in the ledger, in seconds.
    age: i64,
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
    finding: Option<Finding>,
    /// The projected balance, until its `account_seq` is reached.
    projected: Option<ProjectedBalance>,
}

/// Reads both sides in the order of their account ids, and compares each account.
///
/// # Errors
/// When a database can't be read.
pub(crate) async fn compare(
    connections: &mut Connections,
    progress: &mut (dyn FnMut(Progress) + Send),
    findings: &mut Findings,
) -> Result<(), Error> {
    let Connections { accounts, ledger, latest } = connections;
    let mut projections = sqlx::query_as::<_, ProjectedBalance>(
        "SELECT account_id, currency, balance, account_seq,
                extract(epoch FROM now() - created_at)::bigint AS age
         FROM accounts ORDER BY account_id",
    )
    .fetch(accounts);
    let mut rows = sqlx::query_as::<_, LedgerRow>(
        "SELECT a.account_id, a.currency, a.balance, a.account_seq,
                extract(epoch FROM now() - a.created_at)::bigint AS age,
                t.account_seq AS seq, t.type, t.amount, t.currency AS transaction_currency, t.balance_after
         FROM accounts a
         LEFT JOIN transactions t ON t.account_id = a.account_id AND t.status = 'SUCCESS'
         ORDER BY a.account_id, t.account_seq",
    )
    .fetch(ledger);
    let mut projection = next_projection(&mut projections, findings).await?;
    let mut row = rows::next(&mut rows).await.map_err(Error::Ledger)?;
    let mut done = 0;
    while let Some(first) = row.take() {
        let id = first.account_id;
        let in_ledger = || format!("{} in the ledger", account(id));
        findings.dated.count(in_the_future(first.age, in_ledger));
        // The ledger does not know these accounts yet, so no money may have moved.
        while let Some(unknown) = projection.take_if(|projected| projected.account_id < id) {
            findings.projected.count(moved_without_ledger(&unknown));
            projection = next_projection(&mut projections, findings).await?;
        }
        let projected = projection.take_if(|projected| projected.account_id == id);
        let has_projection = projected.is_some();
        if has_projection {
            projection = next_projection(&mut projections, findings).await?;
        }
        let mut balance = RunningBalance::new(id, projected);
        balance.compare_start(&first, findings);
        let mut last = first;
        loop {
            balance.add(&last, findings);
            row = rows::next(&mut rows).await.map_err(Error::Ledger)?;
            match row.take_if(|row| row.account_id == id) {
                Some(next) => last = next,
                None => break,
            }
        }
        // An account missing from the snapshot may have been opened since.
        let is_opened = has_projection || account_exists(latest, id).await?;
        balance.finish(&last, is_opened, findings);
        done += 1;
        progress(Progress::Balances(done));
    }
    while let Some(unknown) = projection {
        findings.projected.count(moved_without_ledger(&unknown));
        projection = next_projection(&mut projections, findings).await?;
    }
    Ok(())
}

/// The next account of the account-service. Checks its time.
async fn next_projection(
    projections: &mut (impl TryStream<Ok = ProjectedBalance, Error = sqlx::Error> + Unpin),
    findings: &mut Findings,
) -> Result<Option<ProjectedBalance>, Error> {
    let projection = rows::next(projections).await.map_err(Error::Accounts)?;
    if let Some(ProjectedBalance { account_id, age, .. }) = &projection {
        findings.dated.count(in_the_future(*age, || account(*account_id)));
    }
    Ok(projection)
}

async fn account_exists(latest: &mut PgConnection, id: Uuid) -> Result<bool, Error> {
    let exists = sqlx::query_scalar("SELECT EXISTS (SELECT FROM accounts WHERE account_id = $1)");
    rows::answered(exists.bind(id).fetch_one(latest)).await.map_err(Error::Accounts)
}

/// The subject of a finding.
pub(crate) fn account(id: Uuid) -> String {
    format!("account {id}")
}

fn moved_without_ledger(projected: &ProjectedBalance) -> Option<Finding> {
    let moved = projected.account_seq != 0 || !projected.balance.is_zero();
    let detail = || format!("shows {projected}, the ledger has nothing");
    moved.then(|| Finding::new(account(projected.account_id), detail()))
}

impl RunningBalance {
    const fn new(account_id: Uuid, projected: Option<ProjectedBalance>) -> Self {
        Self { account_id, sum: Decimal::ZERO, seq: 0, finding: None, projected }
    }

    /// Compares a projection at `account_seq` 0: a balance before the first transaction.
    fn compare_start(&mut self, ledger: &LedgerRow, findings: &mut Findings) {
        if let Some(projected) = self.projected.take_if(|projected| projected.account_seq == 0) {
            let is_sound = projected.balance.is_zero() && projected.currency == ledger.currency;
            findings.projected.count((!is_sound).then(|| {
                Finding::new(account(self.account_id), format!("shows {projected} at its start"))
            }));
            findings.behind += u64::from(ledger.account_seq > 0);
        }
    }

    /// Adds a transaction, and compares the projection at its `account_seq`.
    fn add(&mut self, row: &LedgerRow, findings: &mut Findings) {
        let (Some(seq), Some(amount)) = (row.seq, row.amount) else { return };
        self.sum += if row.r#type.as_deref() == Some("DEPOSIT") { amount } else { -amount };
        self.seq += 1;
        let follows = seq == self.seq
            && row.balance_after == Some(self.sum)
            && self.sum >= Decimal::ZERO
            && row.transaction_currency.as_ref() == Some(&row.currency);
        if !follows && self.finding.is_none() {
            let detail = format!(
                "should have {} {} at accountSeq {}, but has {row}",
                self.sum.normalize(),
                row.currency,
                self.seq
            );
            self.finding = Some(Finding::new(account(self.account_id), detail));
        }
        if let Some(projected) = self.projected.take_if(|projected| projected.account_seq == seq) {
            let is_same =
                row.balance_after == Some(projected.balance) && projected.currency == row.currency;
            findings.projected.count((!is_same).then(|| {
                let detail = format!("shows {projected}, the ledger has {row}");
                Finding::new(account(self.account_id), detail)
            }));
            findings.behind += u64::from(row.account_seq > seq);
        }
    }

    /// Compares the sum with the account's balance, and the existence of the account.
    fn finish(mut self, ledger: &LedgerRow, is_opened: bool, findings: &mut Findings) {
        let id = self.account_id;
        if self.finding.is_none() && (ledger.balance, ledger.account_seq) != (self.sum, self.seq) {
            let detail = format!(
                "has {} transactions that add up to {}, but accountSeq {} and balance {}",
                self.seq, self.sum, ledger.account_seq, ledger.balance
            );
            self.finding = Some(Finding::new(account(id), detail));
        }
        findings.conserved.count(self.finding);
        if let Some(projected) = self.projected {
            let detail = format!("shows {projected}, which never was");
            findings.projected.count(Some(Finding::new(account(id), detail)));
        } else if !is_opened {
            // A forged command can create an account in the ledger that nobody opened.
            let moved = self.seq > 0;
            let finding = || Finding::new(account(id), "has money and is no account");
            findings.projected.count(moved.then(finding));
        }
    }
}
