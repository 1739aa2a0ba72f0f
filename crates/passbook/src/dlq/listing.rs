//! Prints the disposition of each letter as it happens. Nothing is kept in memory.

use std::{fmt, process::ExitCode};

use anyhow::Result;
use contract::RecordId;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{
    dead_letter::DeadLetter,
    output::{self, Output},
};

/// What a command did with a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Disposition {
    #[serde(rename = "redriven")]
    Replayed,
    Discarded,
    #[serde(rename = "would-redrive")]
    WouldReplay,
    WouldDiscard,
    /// The letter was closed in the same way before.
    AlreadyClosed,
    /// The letter was left open.
    Refused,
    /// The letter was closed in another way.
    ClosedOtherwise,
    NotFound,
}

impl Disposition {
    const ALL: [Self; 8] = [
        Self::Replayed,
        Self::Discarded,
        Self::WouldReplay,
        Self::WouldDiscard,
        Self::AlreadyClosed,
        Self::Refused,
        Self::ClosedOtherwise,
        Self::NotFound,
    ];

    /// Whether the command did not achieve its purpose.
    const fn is_finding(self) -> bool {
        matches!(self, Self::Refused | Self::ClosedOtherwise | Self::NotFound)
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Replayed => "redriven",
            Self::Discarded => "discarded",
            Self::WouldReplay => "would redrive",
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
    #[serde(rename = "outcome")]
    disposition: Disposition,
    detail: &'a str,
}

/// Prints one entry per letter, and the counts at the end.
pub(super) struct Listing {
    format: Output,
    counts: [u64; Disposition::ALL.len()],
    printed: u64,
    progress: ProgressBar,
}

impl Listing {
    /// `expected` is the number of letters, if known.
    pub(super) fn new(format: Output, expected: Option<u64>) -> Self {
        let progress = output::progress("letters", expected);
        Self { format, counts: [0; Disposition::ALL.len()], printed: 0, progress }
    }

    /// Adds a letter.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(super) fn add(
        &mut self,
        letter: &DeadLetter,
        disposition: Disposition,
        detail: &str,
    ) -> Result<()> {
        self.print(&Entry {
            id: letter.id,
            record_id: letter.record(),
            consumer: Some(&letter.consumer),
            disposition,
            detail,
        })
    }

    /// Adds an id without a letter.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(super) fn add_missing(&mut self, id: u64) -> Result<()> {
        let detail = "there is no such letter: list them with `passbook dlq ls`";
        let disposition = Disposition::NotFound;
        self.print(&Entry { id, record_id: None, consumer: None, disposition, detail })
    }

    fn print(&mut self, entry: &Entry<'_>) -> Result<()> {
        for (count, disposition) in self.counts.iter_mut().zip(Disposition::ALL) {
            *count += u64::from(disposition == entry.disposition);
        }
        let line = match self.format {
            Output::Json => {
                let separator = if self.printed == 0 { "[\n  " } else { ",\n  " };
                format!("{separator}{}", output::escape(&serde_json::to_string(entry)?))
            }
            Output::Table => {
                let Entry { id, disposition, detail, .. } = entry;
                format!("{id:>6}  {disposition:<16}  {}\n", output::escape(detail))
            }
        };
        self.printed += 1;
        self.progress.inc(1);
        self.progress.suspend(|| output::text(&line))
    }

    /// Prints the counts. Exit code 1 if a letter was refused, closed otherwise or not found.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(super) fn finish(self) -> Result<ExitCode> {
        self.progress.finish_and_clear();
        let counts = || self.counts.iter().zip(Disposition::ALL).filter(|(count, _)| **count > 0);
        match self.format {
            Output::Json if self.printed == 0 => output::line("[]")?,
            Output::Json => output::line("\n]")?,
            Output::Table if self.printed == 0 => output::line("no open letter matches")?,
            Output::Table => {
                let counts: Vec<_> =
                    counts().map(|(count, disposition)| format!("{count} {disposition}")).collect();
                output::line(&format!("\n{}", counts.join(", ")))?;
            }
        }
        let has_findings = counts().any(|(_, disposition)| disposition.is_finding());
        Ok(ExitCode::from(u8::from(has_findings)))
    }
}
