//! What was done with each letter, told as it happens: nothing is kept.

use std::{fmt, process::ExitCode};

use anyhow::Result;
use contract::RecordId;
use indicatif::ProgressBar;
use serde::Serialize;

use super::letter::Letter;
use crate::output::{self, Output};

/// What became of one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Done {
    Redriven,
    Discarded,
    WouldRedrive,
    WouldDiscard,
    /// The same was done with it before.
    AlreadyClosed,
    /// It was not done, and the letter is still open.
    Refused,
    /// Something else was done with it, by somebody else.
    ClosedOtherwise,
    NotFound,
}

impl Done {
    const ALL: [Self; 8] = [
        Self::Redriven,
        Self::Discarded,
        Self::WouldRedrive,
        Self::WouldDiscard,
        Self::AlreadyClosed,
        Self::Refused,
        Self::ClosedOtherwise,
        Self::NotFound,
    ];

    /// Whether what was asked for was not done.
    const fn is_finding(self) -> bool {
        matches!(self, Self::Refused | Self::ClosedOtherwise | Self::NotFound)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
            Self::WouldRedrive => "would redrive",
            Self::WouldDiscard => "would discard",
            Self::AlreadyClosed => "closed before",
            Self::Refused => "refused",
            Self::ClosedOtherwise => "closed otherwise",
            Self::NotFound => "not found",
        })
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    id: u64,
    record_id: Option<RecordId>,
    consumer: Option<&'a str>,
    outcome: Done,
    detail: &'a str,
}

/// Prints what was done, letter by letter, and how much of it.
pub(super) struct Listing {
    format: Output,
    counts: [u64; Done::ALL.len()],
    told: u64,
    progress: ProgressBar,
}

impl Listing {
    pub(super) fn new(format: Output, expected: Option<u64>) -> Self {
        let progress = output::progress("letters", expected);
        Self { format, counts: [0; Done::ALL.len()], told: 0, progress }
    }

    /// What became of a letter.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(super) fn tell(&mut self, letter: &Letter, outcome: Done, detail: &str) -> Result<()> {
        self.print(&Entry {
            id: letter.id,
            record_id: letter.record,
            consumer: Some(&letter.consumer),
            outcome,
            detail,
        })
    }

    /// That there is no letter of this id.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(super) fn tell_missing(&mut self, id: u64) -> Result<()> {
        let detail = "there is no such letter: `passbook dlq ls` lists them";
        let outcome = Done::NotFound;
        self.print(&Entry { id, record_id: None, consumer: None, outcome, detail })
    }

    fn print(&mut self, entry: &Entry<'_>) -> Result<()> {
        for (count, done) in self.counts.iter_mut().zip(Done::ALL) {
            *count += u64::from(done == entry.outcome);
        }
        let line = match self.format {
            Output::Json => {
                let before = if self.told == 0 { "[\n  " } else { ",\n  " };
                format!("{before}{}", output::safe(&serde_json::to_string(entry)?))
            }
            Output::Table => {
                let Entry { id, outcome, detail, .. } = entry;
                format!("{id:>6}  {outcome:<16}  {}\n", output::safe(detail))
            }
        };
        self.told += 1;
        self.progress.inc(1);
        self.progress.suspend(|| output::text(&line))
    }

    /// Prints the end. Exit code 1 if something was not done.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(super) fn finish(self) -> Result<ExitCode> {
        self.progress.finish_and_clear();
        let counted = || self.counts.iter().zip(Done::ALL).filter(|(count, _)| **count > 0);
        match self.format {
            Output::Json if self.told == 0 => output::line("[]")?,
            Output::Json => output::line("\n]")?,
            Output::Table if self.told == 0 => output::line("no open letter is meant by that")?,
            Output::Table => {
                let counts: Vec<_> = counted().map(|(count, it)| format!("{count} {it}")).collect();
                output::line(&format!("\n{}", counts.join(", ")))?;
            }
        }
        Ok(ExitCode::from(u8::from(counted().any(|(_, done)| done.is_finding()))))
    }
}
