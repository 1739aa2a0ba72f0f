//! Checks, their results and how they are printed.

use std::{future::Future, time::Duration};

use anyhow::Result;
use metrics::gauge;
use serde::Serialize;

use crate::{
    age, error_chain,
    output::{self, Output},
};

/// Anything older counts as stuck: a working system needs seconds.
pub(super) const STUCK: Duration = Duration::from_secs(60);
/// Limit for one check: shorter than a person's patience, longer than a busy server needs.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CheckState {
    Fine,
    Finding,
    NotChecked,
}

/// The result of one check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    area: String,
    check: String,
    state: CheckState,
    detail: String,
    /// Age of the finding, if known.
    seconds: Option<u64>,
    /// For a finding: how to resolve it.
    advice: Option<String>,
}

impl Check {
    pub(super) const fn is_finding(&self) -> bool {
        matches!(self.state, CheckState::Finding)
    }

    /// Sets the check's metric, unless it was not checked.
    pub(super) fn record_metric(&self) {
        let labels = [("area", self.area.clone()), ("check", self.check.clone())];
        match self.state {
            CheckState::Fine => gauge!("passbook_doctor_findings", &labels).increment(0),
            CheckState::Finding => gauge!("passbook_doctor_findings", &labels).increment(1),
            CheckState::NotChecked => {}
        }
    }
}

/// The checks of one area.
pub(super) struct Area {
    name: String,
    checks: Vec<Check>,
}

impl Area {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), checks: Vec::new() }
    }

    pub(super) fn fine(&mut self, check: &str, detail: impl Into<String>) {
        self.add(check, CheckState::Fine, detail.into(), None, None);
    }

    pub(super) fn not_checked(&mut self, check: &str, why: impl Into<String>) {
        self.add(check, CheckState::NotChecked, why.into(), None, None);
    }

    pub(super) fn finding(&mut self, check: &str, detail: impl Into<String>, advice: &str) {
        self.add(check, CheckState::Finding, detail.into(), None, Some(advice));
    }

    /// A finding with its age.
    pub(super) fn lasting(&mut self, check: &str, detail: String, age: Duration, advice: &str) {
        let detail = format!("{detail} for {}", age::format(age));
        self.add(check, CheckState::Finding, detail, Some(age.as_secs()), Some(advice));
    }

    fn add(
        &mut self,
        check: &str,
        state: CheckState,
        detail: String,
        seconds: Option<u64>,
        advice: Option<&str>,
    ) {
        let (area, check) = (self.name.clone(), check.to_owned());
        let advice = advice.map(str::to_owned);
        self.checks.push(Check { area, check, state, detail, seconds, advice });
    }

    /// Whether this check has a finding.
    pub(super) fn has_finding(&self, check: &str) -> bool {
        self.checks.iter().any(|other| other.check == check && other.is_finding())
    }

    /// Runs a lookup within the time limit. An error or a timeout becomes a finding.
    pub(super) async fn attempt<T>(
        &mut self,
        check: &str,
        advice: &str,
        lookup: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        match tokio::time::timeout(LIMIT, lookup).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => self.finding(check, error_chain::describe(&error), advice),
            Err(_) => {
                self.finding(check, format!("no answer within {} s", LIMIT.as_secs()), advice);
            }
        }
        None
    }

    pub(super) fn into_checks(self) -> Vec<Check> {
        self.checks
    }
}

/// Prints all checks, and how to resolve each finding.
///
/// # Errors
/// When stdout is closed.
pub(super) fn print(checks: &[Check], format: Output) -> Result<()> {
    if format == Output::Json {
        return output::json(&checks);
    }
    let row = |check: &Check| {
        let state = match check.state {
            CheckState::Fine => "fine",
            CheckState::Finding => "FINDING",
            CheckState::NotChecked => "not checked",
        };
        vec![check.area.clone(), check.check.clone(), state.to_owned(), check.detail.clone()]
    };
    output::table(&["WHERE", "WHAT", "", ""], checks.iter().map(row))?;
    let findings = || checks.iter().filter(|check| check.is_finding());
    match findings().count() {
        0 => output::line("\nno findings"),
        count => {
            output::line(&format!("\nHow to resolve the findings ({count}):"))?;
            for Check { area, check, advice, .. } in findings() {
                let advice = advice.as_deref().unwrap_or_default();
                output::line(&format!(
                    "  {}: {advice}",
                    output::escape(&format!("{area}, {check}"))
                ))?;
            }
            Ok(())
        }
    }
}
