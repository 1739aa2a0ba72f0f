//! What came of a run, for a person and for a test.

use std::{collections::BTreeMap, time::Duration};

use super::Chaos;

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// What does not hold.
    pub findings: Vec<String>,
    pub accepted: usize,
    pub refused: usize,
    /// Answers by status; 0 is none.
    pub answers: BTreeMap<u16, u64>,
    /// How the system came back after each trouble.
    pub recoveries: Vec<Recovery>,
    /// From the end of the last trouble until no record was PENDING.
    pub settled_after: Duration,
    /// The most that a process of this name had resident, in MiB.
    pub memory: BTreeMap<String, u64>,
}

/// How the system came back after a trouble.
#[derive(Debug)]
pub struct Recovery {
    pub trouble: String,
    /// From its end until a deposit that was made then was settled.
    pub took: Duration,
    /// Whether no other trouble went on in that time.
    pub alone: bool,
}

impl Report {
    /// Prints a summary for a person.
    pub fn print(&self, chaos: &Chaos) {
        println!("\n{}", chaos.name);
        println!(
            "accepted {} movements; {} of all were refused by the ledger",
            self.accepted, self.refused
        );
        let answers: Vec<_> = self
            .answers
            .iter()
            .map(|(status, count)| match status {
                0 => format!("{count} times none"),
                status => format!("{count} × {status}"),
            })
            .collect();
        println!("answers: {}", answers.join(", "));
        for (which, alone) in [("met no other", true), ("met others", false)] {
            let of = self.recoveries.iter().filter(|it| it.alone == alone);
            let mut took: Vec<_> = of.map(|it| it.took.as_secs_f64()).collect();
            took.sort_by(f64::total_cmp);
            if let (Some(median), Some(longest)) = (took.get(took.len() / 2), took.last()) {
                println!(
                    "{} troubles {which}: a deposit made at the end of one settled after \
                     {median:.2} s (median), {longest:.2} s (longest)",
                    took.len(),
                );
            }
        }
        let memory = self.memory.iter().map(|(name, most)| format!("{name} {most} MiB"));
        println!("resident at most: {}", memory.collect::<Vec<_>>().join(", "));
        println!("nothing PENDING {:.1} s after the last", self.settled_after.as_secs_f64());
        for finding in self.findings.iter().take(20) {
            println!("FINDING: {finding}");
        }
        match self.findings.len() {
            0 => println!("held: once, pinned, conserved, settled, agreed, nothing dropped"),
            count => println!("{count} findings in {}", chaos.name),
        }
    }
}
