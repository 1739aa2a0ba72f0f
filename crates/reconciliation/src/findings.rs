//! The result of a comparison: all checks, and the work in flight.

use serde::Serialize;

use crate::check::{Check, Finding};

/// The numbers of records and transactions.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// All records.
    pub accepted: u64,
    /// Records with the status SUCCESS or FAILED.
    pub settled: u64,
    /// The age of the oldest PENDING record.
    pub oldest_pending_seconds: Option<i64>,
    /// Transactions of the ledger: the settled records, and those with a result in flight.
    pub ledgered: u64,
}

/// The result of all checks, and the work in flight.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    pub once: Check,
    pub pinned: Check,
    pub conserved: Check,
    pub settled: Check,
    pub agreed: Check,
    pub projected: Check,
    pub dated: Check,
    pub chained: Check,
    pub announced: Check,
    /// `None` if no heads were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exported: Option<Check>,
    pub counts: Counts,
    /// PENDING records; a finding only after the time limit.
    pub pending: u64,
    /// Projected balances with results in flight; no finding.
    pub behind: u64,
}

impl Findings {
    /// Nothing compared yet.
    pub(crate) fn new(listed: usize) -> Self {
        let check = |invariant, meaning, of| Check::new(invariant, meaning, of, listed);
        Self {
            once: check("once", "a record has at most one transaction", "transactions"),
            pinned: check("pinned", "a refusal has a reason and moved no money", "refusals"),
            conserved: check(
                "conserved",
                "balance = sum of applied transactions, numbered 1, 2, 3 … without a gap",
                "accounts",
            ),
            settled: check("settled", "an accepted record does not stay PENDING", "records"),
            agreed: check(
                "agreed",
                "a settled record equals its transaction, a PENDING one has the same movement",
                "records",
            ),
            projected: check(
                "projected",
                "a projected balance equals the ledger's at the same accountSeq",
                "accounts",
            ),
            chained: check(
                "chained",
                "the hashes over an account's transactions are those of its rows",
                "accounts",
            ),
            announced: check(
                "announced",
                "events are numbered 1, 2, 3 … in each account, and a settled record has one",
                "events",
            ),
            exported: None,
            dated: check("dated", "a row was not made in the future", "rows"),
            counts: Counts::default(),
            pending: 0,
            behind: 0,
        }
    }

    /// All checks, in their order.
    #[must_use]
    pub fn checks(&self) -> Vec<&Check> {
        let Self { once, pinned, conserved, settled, agreed, projected, dated, chained, .. } = self;
        let checks = [once, pinned, conserved, settled, agreed, projected, dated, chained];
        checks.into_iter().chain([&self.announced]).chain(&self.exported).collect()
    }

    /// Begins the check of exported heads.
    pub(crate) fn expect_heads(&mut self) {
        let meaning = "an exported head is still in the chain of its account";
        self.exported = Some(Check::new("exported", meaning, "heads", self.chained.listed()));
    }

    /// Counts a compared head and its finding, if there is one.
    pub(crate) fn count_head(&mut self, finding: Option<Finding>) {
        if let Some(exported) = &mut self.exported {
            exported.count(finding);
        }
    }
}
