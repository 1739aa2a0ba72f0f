//! Data on stdout as tables or JSON, progress on stderr.

use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use passbook::terminal;
use serde::Serialize;

pub(crate) use passbook::terminal::escape;

/// The form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people.
    Table,
    /// One JSON document for programs.
    Json,
}

/// The output form of a command with data.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// Form of the data on stdout.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Prints one JSON document.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    line(&terminal::json(value)?)
}

/// Prints rows below their headings.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    line(&terminal::table(headings, rows))
}

/// Prints a line and flushes it, also into a file. Does not panic when stdout is closed, unlike
/// `println!`.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// Prints and flushes text without a line break.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The progress of long work, on stderr and only on a terminal. `expected` is the total, if known.
pub(crate) fn progress(unit: &'static str, expected: Option<u64>) -> ProgressBar {
    let of = if expected.is_some() { " of {human_len}" } else { "" };
    let bar = expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_message(unit);
    let style = ProgressStyle::with_template(&format!(
        "{{spinner}} {{human_pos}}{of} {{msg}} ({{elapsed}})"
    ));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}
