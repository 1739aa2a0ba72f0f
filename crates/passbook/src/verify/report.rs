//! What was compared and what was found.

use anyhow::Result;
use serde::Serialize;

use crate::output::{self, Output};

/// Offenders listed for each check.
const LISTED: usize = 10;

/// One check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    /// The invariant's name in the protocol.
    pub(super) invariant: &'static str,
    /// What it says.
    pub(super) meaning: &'static str,
    /// What is counted.
    pub(super) of: &'static str,
    /// How many were compared.
    pub(super) compared: u64,
    /// How many do not hold.
    pub(super) findings: u64,
    /// The first of those.
    pub(super) first: Vec<String>,
}

impl Check {
    const fn new(invariant: &'static str, meaning: &'static str, of: &'static str) -> Self {
        Self { invariant, meaning, of, compared: 0, findings: 0, first: Vec::new() }
    }

    /// Counts one comparison, and what is wrong with it if anything is.
    pub(super) fn count(&mut self, wrong: Option<String>) {
        self.compared += 1;
        if let Some(wrong) = wrong {
            self.findings += 1;
            if self.first.len() < LISTED {
                self.first.push(wrong);
            }
        }
    }
}

/// All checks and what is on its way.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) once: Check,
    pub(super) pinned: Check,
    pub(super) conserved: Check,
    pub(super) agreed: Check,
    pub(super) projected: Check,
    /// Records that are PENDING: no finding.
    pub(super) pending: u64,
    /// Projected balances that some results have still to reach: no finding.
    pub(super) behind: u64,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            once: Check::new("once", "a record has at most one transaction", "transactions"),
            pinned: Check::new("pinned", "a refusal moved nothing and has its reason", "refusals"),
            conserved: Check::new(
                "conserved",
                "balance = sum of applied transactions, numbered 1, 2, 3 … without a gap",
                "accounts",
            ),
            agreed: Check::new(
                "agreed",
                "a settled record says what the ledger says, a PENDING one asks for what it decided",
                "records",
            ),
            projected: Check::new(
                "projected",
                "a shown balance is one that the ledger had at that number",
                "accounts",
            ),
            pending: 0,
            behind: 0,
        }
    }
}

impl Report {
    fn checks(&self) -> [&Check; 5] {
        [&self.once, &self.pinned, &self.conserved, &self.agreed, &self.projected]
    }

    pub(super) fn has_findings(&self) -> bool {
        self.checks().iter().any(|check| check.findings > 0)
    }

    pub(super) fn print(&self, format: Output) -> Result<()> {
        if format == Output::Json {
            return output::json(self);
        }
        let row = |check: &&Check| {
            let held = if check.findings == 0 { "holds" } else { "BROKEN" };
            let compared = format!("{} {}", check.compared, check.of);
            [check.invariant, held, &compared, &check.findings.to_string(), check.meaning]
                .map(str::to_owned)
                .to_vec()
        };
        let headings = ["INVARIANT", "", "COMPARED", "FINDINGS", "MEANING"];
        output::table(&headings, self.checks().iter().map(row))?;
        for check in self.checks().iter().filter(|check| check.findings > 0) {
            output::line(&format!("\n{}: the first {}", check.invariant, check.first.len()))?;
            for wrong in &check.first {
                output::line(&format!("  {wrong}"))?;
            }
        }
        output::line(&format!(
            "\nin flight: {} PENDING records, {} balances with results on their way",
            self.pending, self.behind
        ))
    }
}
