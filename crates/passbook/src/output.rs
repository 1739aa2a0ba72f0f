//! Data on stdout as tables or JSON, progress on stderr.

use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

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
    // Outside strings, the only control characters of the document are line breaks.
    let lines: Vec<_> = serde_json::to_string_pretty(value)?.split('\n').map(escape).collect();
    line(&lines.join("\n"))
}

/// Prints rows below their headings.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| escape(cell)).collect::<Vec<_>>());
    table.load_style(NOTHING).set_header(headings.iter().copied()).add_rows(rows);
    line(&table.trim_fmt())
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

/// Makes text from outside safe for a terminal. Characters for moving the cursor, changing colours
/// or turning the direction of text are replaced by their JSON escapes.
pub(crate) fn escape(text: &str) -> String {
    let changes_direction = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || changes_direction(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            escape("a\u{1b}[2Jb\r\u{9b}\u{202e}\t한글"),
            r"a\u001b[2Jb\u000d\u009b\u202e\u0009한글"
        );
    }
}
