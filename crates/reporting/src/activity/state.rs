//! Where an activity report is, and what it has added up: its checkpoint.

use contract::Kind;
use serde::{Deserialize, Serialize};

use super::{
    ActivityError, ActivityProgress,
    amounts::{Amounts, UnusualFound, Usual},
    largest::Largest,
    row::{AccountRow, LargeRow, Row},
    settlement::SettlementTimes,
    store::{Found, Limit},
    volumes::{Currencies, Days, Volumes},
};

/// The form of the state. A state of another form is not used.
pub(super) const VERSION: u32 = 1;

/// An unfinished activity report: some MiB at most. A later attempt goes on from it, in
/// any process.
#[derive(Debug, Serialize, Deserialize)]
pub struct ActivityState {
    pub(super) version: u32,
    pub(super) period: report_document::Period,
    pub(super) phase: Phase,
    /// The rows of the period, as counted so far.
    rows: u64,
    /// The lowest and the highest id found so far.
    ids: Option<(i64, i64)>,
    /// Rows read in the first pass.
    read: u64,
    finished_passes: u64,
    currencies: Currencies,
    volumes: Volumes,
    amounts: Amounts,
    largest: Largest,
    settlement: SettlementTimes,
    unusual: UnusualFound,
}

/// The next part to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Counts the rows of a part of the period.
    Find {
        part: u32,
    },
    /// Reads a slice of the ledger.
    Read {
        pass: Pass,
        next_id: i64,
    },
    Done,
}

/// Each pass reads all rows of the period, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pass {
    /// Adds up all movements.
    Sum,
    /// Adds up the accounts that did not fit before. Repeated as often as needed.
    Accounts,
    /// Looks for unusual entries.
    Unusual,
}

impl ActivityState {
    pub(super) fn new(period: report_document::Period) -> Self {
        Self {
            version: VERSION,
            period,
            phase: Phase::Find { part: 0 },
            rows: 0,
            ids: None,
            read: 0,
            finished_passes: 0,
            currencies: Currencies::default(),
            volumes: Volumes::default(),
            amounts: Amounts::default(),
            largest: Largest::default(),
            settlement: SettlementTimes::default(),
            unusual: UnusualFound::default(),
        }
    }

    /// Adds the rows found in a part of the period.
    pub(super) fn found(&mut self, found: Found, is_last: bool) {
        let Phase::Find { part } = self.phase else { return };
        self.rows += found.rows;
        self.ids = match (self.ids, found.ids) {
            (Some((first, last)), Some((other_first, other_last))) => {
                Some((first.min(other_first), last.max(other_last)))
            }
            (known, found) => known.or(found),
        };
        self.phase = match self.ids {
            _ if !is_last => Phase::Find { part: part + 1 },
            Some((next_id, _)) => Phase::Read { pass: Pass::Sum, next_id },
            None => Phase::Done,
        };
    }

    /// Goes on to the slice that begins with `next_id`, or to the next pass.
    ///
    /// # Errors
    /// [`ActivityError::Changed`]
    pub(super) fn advance(
        &mut self,
        pass: Pass,
        next_id: Option<i64>,
    ) -> Result<(), ActivityError> {
        let (first, last) = self.ids.unwrap_or_default();
        if let Some(next_id) = next_id.filter(|next| *next <= last) {
            self.phase = Phase::Read { pass, next_id };
            return Ok(());
        }
        if self.read != self.rows {
            return Err(ActivityError::Changed { counted: self.rows, read: self.read });
        }
        self.finished_passes += 1;
        let start = |pass| Phase::Read { pass, next_id: first };
        self.phase = match pass {
            Pass::Sum | Pass::Accounts if self.largest.end_pass() => start(Pass::Accounts),
            Pass::Sum | Pass::Accounts if !self.limits(&self.usual()).is_empty() => {
                start(Pass::Unusual)
            }
            _ => Phase::Done,
        };
        Ok(())
    }

    /// How far the report is.
    pub(super) fn progress(&self) -> ActivityProgress {
        let (step, passes, read) = match self.phase {
            Phase::Find { .. } => ("counting movements", 0, 0),
            Phase::Read { pass: Pass::Sum, .. } => ("adding up movements", 2, self.read),
            Phase::Read { pass: Pass::Accounts, next_id } => {
                ("adding up accounts", 2, self.rows_before(next_id))
            }
            Phase::Read { pass: Pass::Unusual, next_id } => {
                ("looking for unusual movements", 1, self.rows_before(next_id))
            }
            Phase::Done => ("done", 0, 0),
        };
        let finished = self.rows * self.finished_passes;
        let is_counted = !matches!(self.phase, Phase::Find { .. });
        ActivityProgress {
            step,
            done: finished + read,
            total: if is_counted { finished + self.rows * passes } else { 0 },
        }
    }

    /// About how many rows of the period have a lower id.
    fn rows_before(&self, id: i64) -> u64 {
        let (first, last) = self.ids.unwrap_or_default();
        let rows = i128::from(self.rows) * i128::from(id - first) / (i128::from(last - first) + 1);
        u64::try_from(rows).unwrap_or(0).min(self.rows)
    }

    /// Adds movements, each once.
    pub(super) fn add(&mut self, rows: &[Row], days: &Days) {
        self.read += u64::try_from(rows.len()).unwrap_or(0);
        for row in rows {
            let currency = self.currencies.position(&row.currency);
            self.volumes.add(row, currency, days);
            if let Some(ms) = row.settlement_ms() {
                self.settlement.add(ms);
            }
            if row.refusal.is_none() {
                self.amounts.add(currency, row.kind, row.amount);
                self.largest.add(row.account_id, currency, row.kind, row.amount);
            }
        }
    }

    /// Adds the movements of a further pass over the accounts.
    pub(super) fn add_accounts(&mut self, rows: &[AccountRow]) {
        for row in rows {
            let currency = self.currencies.position(&row.currency);
            self.largest.add(row.account_id, currency, row.kind, row.amount);
        }
    }

    /// Adds large movements.
    pub(super) fn add_large(&mut self, rows: &[LargeRow], usual: &[Usual]) {
        let currencies = &self.currencies;
        self.unusual.add(rows, |row| {
            let currency = currencies.find(&row.currency)?;
            let is_withdrawal = row.kind == Kind::Withdrawal;
            usual
                .iter()
                .find(|usual| (usual.currency, usual.is_withdrawal) == (currency, is_withdrawal))
                .copied()
        });
    }

    /// The usual amounts, once all movements were added up.
    pub(super) fn usual(&self) -> Vec<Usual> {
        self.amounts.usual()
    }

    /// The limits of the usual amounts, for a statement.
    pub(super) fn limits(&self, usual: &[Usual]) -> Vec<Limit> {
        let limit = |usual: &Usual| {
            Some(Limit {
                currency: self.currencies.code(usual.currency).to_owned(),
                kind: if usual.is_withdrawal { Kind::Withdrawal } else { Kind::Deposit },
                amount: usual.limit()?,
            })
        };
        usual.iter().filter_map(limit).collect()
    }

    /// The document of a finished state, without an analysis.
    pub(super) fn document(
        &self,
        issuer: String,
        period: &crate::Period,
        days: &Days,
    ) -> report_document::Activity {
        report_document::Activity {
            template: report_document::TEMPLATE,
            issuer,
            period: period.document(),
            totals: self.volumes.totals(&self.currencies),
            days: self.volumes.days(days, &self.currencies),
            refusals: self.volumes.refusals(),
            largest_accounts: self.largest.figures(&self.currencies),
            unusual: self.unusual.figures(period),
            settlement: self.settlement.figures(),
            analysis: None,
        }
    }
}
