//! Balances: the ledger's against its own transactions, and those that the
//! account-service shows against the ledger's. Merged by account id.

use anyhow::Result;
use futures::TryStreamExt;
use rust_decimal::Decimal;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::report::Report;

/// A balance that the account-service shows.
#[derive(Debug, FromRow)]
struct Shown {
    account_id: Uuid,
    currency: String,
    balance: Decimal,
    account_seq: i64,
}

/// An account of the ledger and one of its applied transactions, if it has any.
#[derive(Debug, FromRow)]
struct Applied {
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

/// The ledger's account, as its transactions add up.
struct Running {
    account_id: Uuid,
    sum: Decimal,
    seq: i64,
    wrong: Option<String>,
    /// What the account-service shows, until the number it shows is reached.
    shown: Option<Shown>,
}

/// Goes through both in the order of their account ids.
pub(super) async fn compare(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    latest: &mut PgConnection,
    report: &mut Report,
) -> Result<()> {
    let mut shown = sqlx::query_as::<_, Shown>(
        "SELECT account_id, currency, balance, account_seq FROM accounts ORDER BY account_id",
    )
    .fetch(accounts);
    let mut applied = sqlx::query_as::<_, Applied>(
        "SELECT a.account_id, a.currency, a.balance, a.account_seq, t.account_seq AS seq, t.type,
                t.amount, t.currency AS transaction_currency, t.balance_after
         FROM accounts a
         LEFT JOIN transactions t ON t.account_id = a.account_id AND t.status = 'SUCCESS'
         ORDER BY a.account_id, t.account_seq",
    )
    .fetch(ledger);
    let mut next_shown = shown.try_next().await?;
    let mut row = applied.try_next().await?;
    while let Some(first) = row.take() {
        // What is shown of accounts that the ledger has not met: nothing may have moved.
        while let Some(unmet) = next_shown.take_if(|it| it.account_id < first.account_id) {
            report.projected.count(moved_without_ledger(&unmet));
            next_shown = shown.try_next().await?;
        }
        let mine = next_shown.take_if(|it| it.account_id == first.account_id);
        if mine.is_some() {
            next_shown = shown.try_next().await?;
        }
        let has_shown = mine.is_some();
        let mut running = Running::new(first.account_id, mine);
        running.see_start(&first, report);
        let mut last = first;
        loop {
            running.add(&last, report);
            row = applied.try_next().await?;
            match row.take_if(|it| it.account_id == last.account_id) {
                Some(next) => last = next,
                None => break,
            }
        }
        // An account that was not in the snapshot may have been opened since.
        let opened = has_shown || is_opened(latest, last.account_id).await?;
        running.end(&last, opened, report);
    }
    while let Some(unmet) = next_shown {
        report.projected.count(moved_without_ledger(&unmet));
        next_shown = shown.try_next().await?;
    }
    Ok(())
}

async fn is_opened(latest: &mut PgConnection, id: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM accounts WHERE account_id = $1)")
        .bind(id)
        .fetch_one(latest)
        .await?)
}

fn moved_without_ledger(shown: &Shown) -> Option<String> {
    let moved = shown.account_seq != 0 || !shown.balance.is_zero();
    moved.then(|| format!("account {} shows {shown:?}, the ledger has nothing", shown.account_id))
}

impl Running {
    const fn new(account_id: Uuid, shown: Option<Shown>) -> Self {
        Self { account_id, sum: Decimal::ZERO, seq: 0, wrong: None, shown }
    }

    /// A balance shown at number 0 is one without transactions.
    fn see_start(&mut self, ledger: &Applied, report: &mut Report) {
        if let Some(shown) = self.shown.take_if(|it| it.account_seq == 0) {
            let wrong = !shown.balance.is_zero() || shown.currency != ledger.currency;
            report.projected.count(
                wrong.then(|| format!("account {} shows {shown:?} at its start", self.account_id)),
            );
            report.behind += u64::from(ledger.account_seq > 0);
        }
    }

    fn add(&mut self, row: &Applied, report: &mut Report) {
        let (Some(seq), Some(amount)) = (row.seq, row.amount) else { return };
        self.sum += if row.r#type.as_deref() == Some("DEPOSIT") { amount } else { -amount };
        self.seq += 1;
        let follows = seq == self.seq
            && row.balance_after == Some(self.sum)
            && self.sum >= Decimal::ZERO
            && row.transaction_currency.as_ref() == Some(&row.currency);
        if !follows && self.wrong.is_none() {
            self.wrong = Some(format!(
                "account {}: number {} with a sum of {} is expected, and there is {row:?}",
                self.account_id, self.seq, self.sum
            ));
        }
        if let Some(shown) = self.shown.take_if(|it| it.account_seq == seq) {
            let same = row.balance_after == Some(shown.balance) && shown.currency == row.currency;
            report.projected.count((!same).then(|| {
                format!("account {} shows {shown:?}, the ledger has {row:?}", self.account_id)
            }));
            report.behind += u64::from(row.account_seq > seq);
        }
    }

    fn end(mut self, ledger: &Applied, opened: bool, report: &mut Report) {
        if self.wrong.is_none() && (ledger.balance, ledger.account_seq) != (self.sum, self.seq) {
            self.wrong = Some(format!(
                "account {}: {} transactions come to {}, and it says {} and {}",
                self.account_id, self.seq, self.sum, ledger.account_seq, ledger.balance
            ));
        }
        report.conserved.count(self.wrong);
        if let Some(shown) = self.shown {
            let id = self.account_id;
            report.projected.count(Some(format!("account {id} shows {shown:?}, which never was")));
        } else if !opened {
            // Forged commands can open an account in the ledger that nobody opened here.
            let id = self.account_id;
            report
                .projected
                .count((self.seq > 0).then(|| format!("account {id} has money and is no account")));
        }
    }
}
