//! The report of a run: all checks, and the work in flight.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use metrics::gauge;
use reconciliation::{Check, Findings};
use serde::Serialize;

use super::reports::ReportFindings;
use crate::{
    age,
    output::{self, Output},
    pushgateway,
};

/// Findings listed for each check.
pub(super) const LISTED: usize = 10;

/// The contents of the streams.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamCounts {
    pub(super) checked: bool,
    /// Why the streams were not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// Messages with results not yet settled by the account-service; no finding.
    pub(super) result_messages_in_flight: u64,
    /// Messages with commands not yet decided by the ledger; no finding.
    pub(super) command_messages_in_flight: u64,
    /// Open dead letters by consumer; no finding.
    pub(super) dead_letters_open: BTreeMap<String, u64>,
    pub(super) oldest_dead_letter_seconds: Option<u64>,
}

/// Sets a check's metrics.
fn record_metrics(check: &Check) {
    let invariant = [("invariant", check.invariant)];
    gauge!("passbook_verify_findings", &invariant).set(pushgateway::count(check.findings));
    gauge!("passbook_verify_compared", &invariant).set(pushgateway::count(check.compared));
}

/// The check of the streams, before it looked.
const fn dropped() -> Check {
    Check::new(
        "dropped",
        "every command and result is processed, in flight or a dead letter",
        "results",
        LISTED,
    )
}

/// The result of all checks, and the work in flight.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) databases: Findings,
    pub(super) dropped: Check,
    pub(super) streams: StreamCounts,
    #[serde(flatten)]
    pub(super) reports: Option<ReportFindings>,
    /// Why the reports were not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reports_not_checked: Option<String>,
    /// Why nothing is sent to the Pushgateway, although its URL is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_pushed: Option<&'static str>,
}

impl Report {
    /// The findings in the databases, before a look at the streams.
    pub(super) fn new(databases: Findings) -> Self {
        Self {
            databases,
            dropped: dropped(),
            streams: StreamCounts::default(),
            reports: None,
            reports_not_checked: None,
            not_pushed: None,
        }
    }

    /// As before a look at the streams.
    pub(super) fn forget_streams(&mut self) {
        self.dropped = dropped();
        self.streams = StreamCounts::default();
    }

    fn checks(&self) -> Vec<&Check> {
        let reports = self.reports.iter().flat_map(ReportFindings::checks);
        self.databases.checks().into_iter().chain([&self.dropped]).chain(reports).collect()
    }

    pub(super) fn has_findings(&self) -> bool {
        self.checks().iter().any(|check| check.findings > 0)
    }

    /// Sets the metrics of the checks over the databases. The time of the last run is set only for
    /// a complete run.
    pub(super) fn record_database_metrics(&self, duration: Duration, complete: bool) {
        let reports = self.reports.iter().flat_map(ReportFindings::checks);
        self.databases.checks().into_iter().chain(reports).for_each(record_metrics);
        gauge!("passbook_verify_duration_seconds").set(duration.as_secs_f64());
        if complete {
            gauge!("passbook_verify_last_run_timestamp_seconds").set(pushgateway::now());
        }
    }

    /// Sets the metrics of the check over the streams. `None` if the streams were not read to the
    /// end and nothing was found: such a run must not resolve an alert.
    pub(super) fn stream_metrics(&self) -> Option<impl FnOnce()> {
        let is_conclusive = self.streams.checked || self.dropped.findings > 0;
        is_conclusive.then_some(|| record_metrics(&self.dropped))
    }

    /// # Errors
    /// When stdout is closed.
    pub(super) fn print(&self, format: Output) -> Result<()> {
        if format == Output::Json {
            return output::json(self);
        }
        let row = |check: &&Check| {
            let unchecked = check.invariant == self.dropped.invariant && !self.streams.checked;
            let result = match check.findings {
                0 if unchecked => "not checked",
                0 => "holds",
                _ => "BROKEN",
            };
            let compared = format!("{} {}", check.compared, check.of);
            [check.invariant, result, &compared, &check.findings.to_string(), check.meaning]
                .map(str::to_owned)
                .to_vec()
        };
        let headings = ["INVARIANT", "", "COMPARED", "FINDINGS", "MEANING"];
        output::table(&headings, self.checks().iter().map(row))?;
        for check in self.checks().iter().filter(|check| check.findings > 0) {
            output::line(&format!("\n{}: the first {}", check.invariant, check.first.len()))?;
            for finding in &check.first {
                output::line(&format!("  {finding}"))?;
            }
        }
        self.print_counts()
    }

    fn print_counts(&self) -> Result<()> {
        let counts = &self.databases.counts;
        let oldest = counts
            .oldest_pending_seconds
            .map(|seconds| format!(", the oldest for {}", age::format(age::from_seconds(seconds))));
        output::line(&format!(
            "\n{} accepted = {} settled + {} PENDING{}; {} in the ledger; {} balances with results \
             in flight",
            counts.accepted,
            counts.settled,
            self.databases.pending,
            oldest.unwrap_or_default(),
            counts.ledgered,
            self.databases.behind
        ))?;
        if let Some(why) = &self.reports_not_checked {
            output::line(&format!("the reports were not checked: {}", output::escape(why)))?;
        }
        if let Some(why) = self.not_pushed {
            output::line(&format!("nothing is sent to the Pushgateway: {why}"))?;
        }
        let streams = &self.streams;
        if let Some(why) = &streams.why {
            output::line(&format!("the streams were not checked: {}", output::escape(why)))?;
        }
        if !streams.checked {
            return Ok(());
        }
        output::line(&format!(
            "streams: {} messages with commands and {} with results in flight",
            streams.command_messages_in_flight, streams.result_messages_in_flight
        ))?;
        let open: Vec<_> = streams
            .dead_letters_open
            .iter()
            .map(|(consumer, count)| format!("{count} of {consumer}"))
            .collect();
        let Some(oldest) = streams.oldest_dead_letter_seconds else { return Ok(()) };
        output::line(&format!(
            "open dead letters: {}, the oldest for {}; list them with `passbook dlq ls`",
            output::escape(&open.join(", ")),
            age::format(Duration::from_secs(oldest))
        ))
    }
}
