//! Lists in headers (RFC 9110, section 5.6.1).

use std::mem;

/// Whether a backslash escapes the next character between quotation marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoted {
    /// It does in a quoted string (RFC 9110, section 5.6.4).
    Text,
    /// It is a character as others in an entity tag (section 8.8.3).
    EntityTag,
}

/// The parts of a line between these separators, outside of quotation marks.
pub fn split(line: &str, separator: char, quoted: Quoted) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    line.split(move |character| {
        let escaped = mem::take(&mut is_escaped);
        match character {
            '"' if !escaped => is_quoted = !is_quoted,
            '\\' => is_escaped = quoted == Quoted::Text && is_quoted && !escaped,
            _ => {}
        }
        character == separator && !is_quoted
    })
}
