//! What was compared and what was found.

use std::time::Duration;

use anyhow::Result;
use metrics::gauge;
use serde::Serialize;

use super::streams::Streams;
use crate::{
    output::{self, Output},
    push,
};

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

    /// Counts so many comparisons that hold.
    pub(super) fn count_sound(&mut self, compared: usize) {
        self.compared += u64::try_from(compared).unwrap_or(0);
    }

    fn measure(&self) {
        let invariant = [("invariant", self.invariant)];
        gauge!("passbook_verify_findings", &invariant).set(push::count(self.findings));
        gauge!("passbook_verify_compared", &invariant).set(push::count(self.compared));
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

/// How many there are on either side.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    /// Records.
    pub(super) accepted: u64,
    /// Those that are SUCCESS or FAILED.
    pub(super) settled: u64,
    /// How long the oldest of the others has been PENDING.
    pub(super) oldest_pending_seconds: Option<i64>,
    /// Transactions. As many as are settled, but for what is in flight.
    pub(super) ledgered: u64,
}

/// All checks and what is on its way.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) once: Check,
    pub(super) pinned: Check,
    pub(super) conserved: Check,
    pub(super) settled: Check,
    pub(super) agreed: Check,
    pub(super) projected: Check,
    pub(super) dropped: Check,
    pub(super) counts: Counts,
    /// Records that are PENDING: no finding, unless for too long.
    pub(super) pending: u64,
    /// Projected balances that some results have still to reach: no finding.
    pub(super) behind: u64,
    pub(super) streams: Streams,
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
            settled: Check::new("settled", "an accepted record does not stay PENDING", "records"),
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
            dropped: Check::new(
                "dropped",
                "nothing: a message is processed, in flight, or a dead letter",
                "messages",
            ),
            counts: Counts::default(),
            pending: 0,
            behind: 0,
            streams: Streams::default(),
        }
    }
}

impl Report {
    fn checks(&self) -> [&Check; 7] {
        [
            &self.once,
            &self.pinned,
            &self.conserved,
            &self.settled,
            &self.agreed,
            &self.projected,
            &self.dropped,
        ]
    }

    pub(super) fn has_findings(&self) -> bool {
        self.checks().iter().any(|check| check.findings > 0)
    }

    /// The same as metrics, of a run that took so long, but for what the
    /// streams say. That it was complete is told only if they were looked at, or
    /// were not to be.
    pub(super) fn measure(&self, took: Duration, complete: bool) {
        let books = self.checks().into_iter().filter(|it| it.invariant != self.dropped.invariant);
        books.for_each(Check::measure);
        gauge!("passbook_verify_duration_seconds").set(took.as_secs_f64());
        if complete {
            gauge!("passbook_verify_last_run_timestamp_seconds").set(push::now());
        }
    }

    /// What the streams say, unless nothing was found where nobody looked to the end: that must
    /// not end an alert.
    pub(super) fn measure_streams(&self) -> Option<impl FnOnce()> {
        let told = self.streams.checked || self.dropped.findings > 0;
        told.then_some(|| self.dropped.measure())
    }

    pub(super) fn print(&self, format: Output) -> Result<()> {
        if format == Output::Json {
            return output::json(self);
        }
        let row = |check: &&Check| {
            let unchecked = check.invariant == self.dropped.invariant && !self.streams.checked;
            let held = match check.findings {
                0 if unchecked => "not checked",
                0 => "holds",
                _ => "BROKEN",
            };
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
        self.print_counts()
    }

    fn print_counts(&self) -> Result<()> {
        let counts = &self.counts;
        let oldest =
            counts.oldest_pending_seconds.map(|it| format!(", the oldest for {}", lasting(it)));
        output::line(&format!(
            "\n{} accepted = {} settled + {} PENDING{}; {} in the ledger; {} balances with results \
             on their way",
            counts.accepted,
            counts.settled,
            self.pending,
            oldest.unwrap_or_default(),
            counts.ledgered,
            self.behind
        ))?;
        let streams = &self.streams;
        if let Some(why) = &streams.why {
            output::line(&format!("the streams were not checked: {}", output::safe(why)))?;
        }
        if !streams.checked {
            return Ok(());
        }
        output::line(&format!(
            "streams: {} commands and {} results in flight",
            streams.commands_in_flight, streams.results_in_flight
        ))?;
        let open: Vec<_> = streams
            .dead_letters_open
            .iter()
            .map(|(of, count)| format!("{count} of {of}"))
            .collect();
        let Some(oldest) = streams.oldest_dead_letter_seconds else { return Ok(()) };
        output::line(&format!(
            "open dead letters: {}, the oldest for {}; `passbook dlq ls` lists them",
            output::safe(&open.join(", ")),
            lasting(oldest)
        ))
    }
}

fn lasting(seconds: i64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
