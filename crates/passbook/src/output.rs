//! How data is printed: for a person or for a program.

use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use indicatif::{ProgressBar, ProgressStyle};
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
    // Every control character of a document, but for its line breaks, is inside a string.
    let lines: Vec<_> = serde_json::to_string_pretty(value)?.split('\n').map(safe).collect();
    line(&lines.join("\n"))
}

/// Prints rows under their headings.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    let rows = rows.into_iter().map(|row| row.iter().map(|it| safe(it)).collect::<Vec<_>>());
    table.load_style(NOTHING).set_header(headings.iter().copied()).add_rows(rows);
    line(&table.trim_fmt())
}

/// Prints a line at once, also when stdout is a file. Unlike `println!`, it
/// does not panic when nobody reads any more.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// The same without a line's end.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// What a stranger wrote, fit for a terminal: characters that would move the
/// cursor, change colours, or turn the direction of the text are shown as
/// JSON writes them.
pub(crate) fn safe(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// How far something is that takes long: on stderr, and only on a terminal.
/// `expected` is how many there are, if that is known.
pub(crate) fn progress(what: &'static str, expected: Option<u64>) -> ProgressBar {
    let of = if expected.is_some() { " of {human_len}" } else { "" };
    let bar = expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_message(what);
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
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(
            safe("a\u{1b}[2Jb\r\u{9b}\u{202e}\t한글"),
            r"a\u001b[2Jb\u000d\u009b\u202e\u0009한글"
        );
    }
}
