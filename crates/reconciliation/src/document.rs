//! The reconciliation report.

use report_document::{Check, Finding, Reconciliation, TEMPLATE};

use crate::findings::Findings;

/// Findings that a report lists. The others are counted.
pub const MAX_LISTED: usize = 10_000;

impl Findings {
    /// The document of a report by this issuer.
    #[must_use]
    pub fn to_document(&self, issuer: &str) -> Reconciliation {
        let checks = self.checks();
        let total: u64 = checks.iter().map(|check| check.findings).sum();
        let first = checks.iter().flat_map(|check| {
            check.first.iter().map(|finding| Finding {
                check: check.invariant.to_owned(),
                subject: finding.subject.clone(),
                detail: finding.detail.clone(),
            })
        });
        let findings: Vec<_> = first.take(MAX_LISTED).collect();
        Reconciliation {
            template: TEMPLATE,
            issuer: issuer.to_owned(),
            checks: checks
                .iter()
                .map(|check| Check {
                    name: check.invariant.to_owned(),
                    description: check.meaning.to_owned(),
                    examined: check.compared,
                    findings: check.findings,
                })
                .collect(),
            omitted: total.saturating_sub(u64::try_from(findings.len()).unwrap_or(u64::MAX)),
            findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn a_document_lists_the_first_findings_of_each_check_and_counts_the_others() {
        let mut findings = Findings::new(MAX_LISTED);
        for _ in 0..3 {
            findings.once.count(Some(check::Finding::new("record 1", "is twice there")));
        }
        for _ in 0..MAX_LISTED {
            findings.agreed.count(Some(check::Finding::new("record 2", "differs")));
        }
        findings.agreed.count(None);
        let document = findings.to_document("Bank");
        assert_eq!((document.findings.len(), document.omitted), (MAX_LISTED, 3));
        assert_eq!(document.findings[2].check, "once");
        assert_eq!(document.findings[3].subject, "record 2");
        let agreed = document.checks.iter().find(|check| check.name == "agreed").unwrap();
        assert_eq!((agreed.examined, agreed.findings), (10_001, 10_000));
    }
}
