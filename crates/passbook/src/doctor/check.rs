//! One thing that was looked at, and how it is told.

use std::{future::Future, time::Duration};

use anyhow::Result;
use metrics::gauge;
use serde::Serialize;

use crate::output::{self, Output};

/// What a check may take. Less than a person waits for, more than a busy
/// server needs.
const LIMIT: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Fine,
    Finding,
    /// It was not looked at.
    NotChecked,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    area: String,
    check: String,
    state: State,
    detail: String,
    /// For how long, if that is known.
    seconds: Option<u64>,
    /// What to do about a finding.
    advice: Option<String>,
}

impl Check {
    pub(super) const fn is_finding(&self) -> bool {
        matches!(self.state, State::Finding)
    }

    /// The same as a metric, if it was looked at.
    pub(super) fn measure(&self) {
        let labels = [("area", self.area.clone()), ("check", self.check.clone())];
        match self.state {
            State::Fine => gauge!("passbook_doctor_findings", &labels).increment(0),
            State::Finding => gauge!("passbook_doctor_findings", &labels).increment(1),
            State::NotChecked => {}
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
        self.add(check, State::Fine, detail.into(), None, None);
    }

    pub(super) fn not_checked(&mut self, check: &str, why: impl Into<String>) {
        self.add(check, State::NotChecked, why.into(), None, None);
    }

    pub(super) fn finding(&mut self, check: &str, detail: impl Into<String>, advice: &str) {
        self.add(check, State::Finding, detail.into(), None, Some(advice));
    }

    /// A finding that has lasted for so long.
    pub(super) fn lasting(&mut self, check: &str, detail: String, age: Duration, advice: &str) {
        let detail = format!("{detail} {}", lasting(age));
        self.add(check, State::Finding, detail, Some(age.as_secs()), Some(advice));
    }

    fn add(
        &mut self,
        check: &str,
        state: State,
        detail: String,
        seconds: Option<u64>,
        advice: Option<&str>,
    ) {
        let (area, check) = (self.name.clone(), check.to_owned());
        let advice = advice.map(str::to_owned);
        self.checks.push(Check { area, check, state, detail, seconds, advice });
    }

    /// Whether something was found about this.
    pub(super) fn has_finding(&self, check: &str) -> bool {
        self.checks.iter().any(|it| it.check == check && it.is_finding())
    }

    /// What an attempt gives within its time; else that is the finding.
    pub(super) async fn attempt<T>(
        &mut self,
        check: &str,
        advice: &str,
        attempt: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        match tokio::time::timeout(LIMIT, attempt).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => self.finding(check, crate::causes(&error), advice),
            Err(_) => {
                self.finding(check, format!("no answer within {} s", LIMIT.as_secs()), advice);
            }
        }
        None
    }

    pub(super) fn done(self) -> Vec<Check> {
        self.checks
    }
}

/// `for 3m 12s`
fn lasting(age: Duration) -> String {
    format!("for {}", humantime::format_duration(Duration::from_secs(age.as_secs())))
}

/// Prints all checks, and what to do about those that found something.
///
/// # Errors
/// When stdout is closed.
pub(super) fn print(checks: &[Check], format: Output) -> Result<()> {
    if format == Output::Json {
        return output::json(&checks);
    }
    let row = |check: &Check| {
        let state = match check.state {
            State::Fine => "fine",
            State::Finding => "FINDING",
            State::NotChecked => "not checked",
        };
        vec![check.area.clone(), check.check.clone(), state.to_owned(), check.detail.clone()]
    };
    output::table(&["WHERE", "WHAT", "", ""], checks.iter().map(row))?;
    let found = || checks.iter().filter(|check| check.is_finding());
    match found().count() {
        0 => output::line("\nnothing was found"),
        count => {
            output::line(&format!("\nWhat to do about the findings ({count}):"))?;
            for Check { area, check, advice, .. } in found() {
                let advice = advice.as_deref().unwrap_or_default();
                output::line(&format!(
                    "  {}: {advice}",
                    output::safe(&format!("{area}, {check}"))
                ))?;
            }
            Ok(())
        }
    }
}
