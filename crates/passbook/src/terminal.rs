//! Text for a terminal, with text from outside in it.

use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

/// Makes text from outside safe for a terminal. Characters for moving the cursor, changing colours
/// or turning the direction of text are replaced by their JSON escapes.
#[must_use]
pub fn escape(text: &str) -> String {
    let changes_direction = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
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

/// One JSON document, in several lines.
///
/// # Errors
/// If the value has no JSON form.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    // Outside strings, the only control characters of the document are line breaks.
    let lines: Vec<_> = serde_json::to_string_pretty(value)?.split('\n').map(escape).collect();
    Ok(lines.join("\n"))
}

/// Rows below their headings.
#[must_use]
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| escape(cell)).collect::<Vec<_>>());
    table.load_style(NOTHING).set_header(headings.iter().copied()).add_rows(rows);
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            escape("a\u{1b}[2Jb\r\u{9b}\u{202e}\u{61c}\t한글"),
            r"a\u001b[2Jb\u000d\u009b\u202e\u061c\u0009한글"
        );
    }
}
