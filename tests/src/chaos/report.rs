//! The report of an experiment, for a person and for a test.

use std::{collections::BTreeMap, time::Duration};

use super::plan::Experiment;

#[derive(Debug, Default)]
pub struct Report {
    /// Every violation, described for a person. Empty if all invariants hold.
    pub findings: Vec<String>,
    pub accepted: usize,
    pub refused: usize,
    /// Responses by status; 0 counts requests without a response.
    pub responses: BTreeMap<u16, u64>,
    pub recoveries: Vec<Recovery>,
    /// From the end of the last disruption until no record was PENDING.
    pub settled_after: Duration,
    /// Peak resident memory of each service by its name, in MiB.
    pub memory: BTreeMap<String, u64>,
}

/// The recovery after one disruption.
#[derive(Debug)]
pub struct Recovery {
    pub disruption: String,
    /// From the end of the disruption until a deposit requested at that time was settled.
    pub took: Duration,
    /// Whether no other disruption was active in that time.
    pub undisturbed: bool,
}

impl Report {
    /// Prints a summary to stdout.
    pub fn print(&self, experiment: &Experiment) {
        println!("\n{}", experiment.name);
        println!("{} movements accepted; the ledger refused {}", self.accepted, self.refused);
        let responses = self.responses.iter().map(|(status, count)| match status {
            0 => format!("{count} × no response"),
            status => format!("{count} × {status}"),
        });
        println!("responses: {}", responses.collect::<Vec<_>>().join(", "));
        for (which, undisturbed) in [("without an overlap", true), ("with an overlap", false)] {
            let recoveries =
                self.recoveries.iter().filter(|recovery| recovery.undisturbed == undisturbed);
            let mut took: Vec<_> = recoveries.map(|recovery| recovery.took.as_secs_f64()).collect();
            took.sort_by(f64::total_cmp);
            if let (Some(median), Some(longest)) = (took.get(took.len() / 2), took.last()) {
                println!(
                    "{} disruptions {which}: a deposit requested at the end of one settled after \
                     {median:.2} s (median), {longest:.2} s (longest)",
                    took.len(),
                );
            }
        }
        let memory = self.memory.iter().map(|(name, peak)| format!("{name} {peak} MiB"));
        println!("peak resident memory: {}", memory.collect::<Vec<_>>().join(", "));
        println!(
            "no record PENDING {:.1} s after the last disruption",
            self.settled_after.as_secs_f64()
        );
        for finding in self.findings.iter().take(20) {
            println!("FINDING: {finding}");
        }
        match self.findings.len() {
            0 => println!(
                "all invariants hold: once, pinned, conserved, settled, agreed, nothing dropped"
            ),
            count => println!("{count} findings in {}", experiment.name),
        }
    }
}
