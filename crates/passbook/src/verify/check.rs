//! One check: its comparisons and findings.

use metrics::gauge;
use serde::Serialize;

use crate::pushgateway;

/// Findings listed for each check.
const LISTED: usize = 10;

/// The result of a check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    /// The name of the invariant in the protocol.
    pub(super) invariant: &'static str,
    pub(super) meaning: &'static str,
    /// The unit of `compared`.
    pub(super) of: &'static str,
    pub(super) compared: u64,
    pub(super) findings: u64,
    /// The first findings, at most [`LISTED`].
    pub(super) first: Vec<String>,
}

impl Check {
    pub(super) const fn new(
        invariant: &'static str,
        meaning: &'static str,
        of: &'static str,
    ) -> Self {
        Self { invariant, meaning, of, compared: 0, findings: 0, first: Vec::new() }
    }

    /// Counts comparisons without a finding.
    pub(super) fn count_sound(&mut self, compared: usize) {
        self.compared += u64::try_from(compared).unwrap_or(0);
    }

    /// Counts one comparison and its finding, if there is one.
    pub(super) fn count(&mut self, finding: Option<String>) {
        self.compared += 1;
        if let Some(finding) = finding {
            self.findings += 1;
            if self.first.len() < LISTED {
                self.first.push(finding);
            }
        }
    }

    /// Sets the check's metrics.
    pub(super) fn record_metrics(&self) {
        let invariant = [("invariant", self.invariant)];
        gauge!("passbook_verify_findings", &invariant).set(pushgateway::count(self.findings));
        gauge!("passbook_verify_compared", &invariant).set(pushgateway::count(self.compared));
    }
}
