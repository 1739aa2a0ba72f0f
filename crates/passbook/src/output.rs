//! How data is printed: for a person or for a program.

use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

/// The form of what is printed to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns, for reading.
    Table,
    /// One JSON document, for programs.
    Json,
}

/// The choice of that form, of commands that print data.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// How to print data.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Prints one JSON document.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints rows under their headings.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings.iter().copied()).add_rows(rows);
    line(&table.trim_fmt())
}

/// Prints a line at once, also when stdout is a file. Unlike `println!`, it
/// does not panic when nobody reads any more.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}
