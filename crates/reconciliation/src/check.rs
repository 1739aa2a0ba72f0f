//! One check: its comparisons and findings.

use std::fmt;

use serde::{Serialize, Serializer};

/// A violation of an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The row or message, such as `record 0198…`.
    pub subject: String,
    /// What is wrong, as the rest of a sentence about the subject.
    pub detail: String,
}

impl Finding {
    #[must_use]
    pub fn new(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), detail: detail.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.detail)
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The result of a check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The name of the invariant in the protocol.
    pub invariant: &'static str,
    pub meaning: &'static str,
    /// The unit of `compared`.
    pub of: &'static str,
    pub compared: u64,
    pub findings: u64,
    /// The first findings.
    pub first: Vec<Finding>,
    /// Upper bound of their number.
    #[serde(skip)]
    listed: usize,
}

impl Check {
    /// A check that keeps its first `listed` findings.
    #[must_use]
    pub const fn new(
        invariant: &'static str,
        meaning: &'static str,
        of: &'static str,
        listed: usize,
    ) -> Self {
        Self { invariant, meaning, of, compared: 0, findings: 0, first: Vec::new(), listed }
    }

    /// Upper bound of the number of findings that it keeps.
    pub(crate) const fn listed(&self) -> usize {
        self.listed
    }

    /// Counts comparisons without a finding.
    pub fn count_sound(&mut self, compared: usize) {
        self.compared += u64::try_from(compared).unwrap_or(0);
    }

    /// Counts one comparison and its finding, if there is one.
    pub fn count(&mut self, finding: Option<Finding>) {
        self.compared += 1;
        if let Some(finding) = finding {
            self.findings += 1;
            if self.first.len() < self.listed {
                self.first.push(finding);
            }
        }
    }
}
