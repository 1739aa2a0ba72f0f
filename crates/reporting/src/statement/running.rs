//! The running balance of a statement: each entry is checked against the one before it.

use contract::{AccountId, Amount, Balance, Currency, Kind, RecordId, TransactionId};
use ledger_reader::{EntryRow, TOLERANCE, invalid_balance};
use report_document::{Entry, Position, Total};
use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::StatementError;
use crate::{AccountInfo, Labels, Period};

/// The balance after the entries so far, and their totals.
pub(super) struct Running<'a> {
    account: AccountId,
    currency: Currency,
    period: &'a Period,
    position: Position,
    /// The latest time so far.
    latest: OffsetDateTime,
    credits: Total,
    debits: Total,
}

impl<'a> Running<'a> {
    pub(super) fn new(info: &AccountInfo, period: &'a Period, opening: Position) -> Self {
        let zero = Total { count: 0, amount: Balance::zero(info.currency).as_decimal() };
        Self {
            account: info.account_id,
            currency: info.currency,
            period,
            position: opening,
            latest: period.from(),
            credits: zero,
            debits: zero,
        }
    }

    /// The last entry so far.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    pub(super) const fn credits(&self) -> Total {
        self.credits
    }

    pub(super) const fn debits(&self) -> Total {
        self.debits
    }

    pub(super) const fn entries(&self) -> u64 {
        self.credits.count.saturating_add(self.debits.count)
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// If it does not follow from the entries before it, or is not in the period.
    pub(super) fn add(&mut self, row: EntryRow, labels: Labels) -> Result<Entry, StatementError> {
        let seq = row.account_seq;
        if seq != self.position.account_seq + 1 {
            let missing = self.position.account_seq + 1;
            return Err(self.inconsistent(format!("the ledger has no accountSeq {missing}")));
        }
        if row.currency != self.currency.code() {
            let (currency, own) = (&row.currency, self.currency);
            return Err(
                self.inconsistent(format!("accountSeq {seq} is in {currency}, not in {own}"))
            );
        }
        let kind = Kind::parse(&row.kind).ok_or_else(|| {
            self.inconsistent(format!("accountSeq {seq} has the unknown type {:?}", row.kind))
        })?;
        let amount = Amount::from_decimal(row.amount, self.currency).map_err(|error| {
            self.inconsistent(format!("the amount {} at accountSeq {seq} {error}", row.amount))
        })?;
        let balance = Balance::from_decimal(row.balance_after, self.currency).ok_or_else(|| {
            self.inconsistent(invalid_balance(row.balance_after, seq, self.currency))
        })?;
        let (balance, amount) = (balance.as_decimal(), amount.as_decimal());
        let (total, effect) = match kind {
            Kind::Deposit => (&mut self.credits, amount),
            Kind::Withdrawal => (&mut self.debits, -amount),
        };
        *total = Total { count: total.count + 1, amount: total.amount + amount };
        if self.position.balance + effect != balance {
            let expected = self.position.balance + effect;
            return Err(self.inconsistent(format!(
                "the balance at accountSeq {seq} is {balance}, but the entries give {expected}"
            )));
        }
        self.position = Position { balance, account_seq: seq };
        let record_id = RecordId::from_uuid(row.record_id);
        Ok(Entry {
            account_seq: seq,
            transaction_id: TransactionId::of(record_id),
            record_id,
            r#type: kind,
            amount,
            balance_after: balance,
            at: self.period.local(self.time(seq, row.created_at)?),
            reference: labels.reference,
            description: labels.description,
        })
    }

    /// The entry's time, or that of an earlier entry with a later time.
    fn time(&mut self, seq: i64, at: OffsetDateTime) -> Result<OffsetDateTime, StatementError> {
        // The entry before the period can't be later: the period begins with the first
        // entry in it.
        let is_first = self.entries() == 1;
        if self.latest - at > TOLERANCE || (is_first && at < self.latest) || at >= self.period.to()
        {
            return Err(StatementError::TimesRunBackwards {
                account: self.account,
                account_seq: seq,
                at,
                from: self.latest,
                to: self.period.to(),
            });
        }
        self.latest = self.latest.max(at);
        Ok(self.latest)
    }

    /// Checks that the entries lead to the closing balance.
    ///
    /// # Errors
    /// [`StatementError::Inconsistent`]
    pub(super) fn check_end(&self, closing: Position) -> Result<(), StatementError> {
        if self.position != closing {
            let (ledger, own) = (describe(closing), describe(self.position));
            return Err(
                self.inconsistent(format!("the ledger has {ledger}, the entries give {own}"))
            );
        }
        Ok(())
    }

    fn inconsistent(&self, finding: String) -> StatementError {
        StatementError::Inconsistent { account: self.account, finding }
    }
}

fn describe(position: Position) -> String {
    let Position { balance, account_seq } = position;
    format!("{} at accountSeq {account_seq}", Decimal::normalize(&balance))
}
