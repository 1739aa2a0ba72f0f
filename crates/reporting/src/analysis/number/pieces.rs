//! Splits a text into words, number literals and single characters.

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// White space on one line, of any kind.
    Space,
    /// A run of letters.
    Word(&'a str),
    /// Digits, and separators between two digits: `1,234.56`, `1'000`, `1.2.3`.
    Literal(&'a str),
    /// A digit or number that is not one of 0 to 9, such as `½`, `²` or `٣`.
    ForeignDigit(&'a str),
    /// The end of a line.
    LineEnd,
    /// Any other character.
    Mark(char),
}

/// The pieces of a text, in order.
pub(super) fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (piece, length) = if first == '\n' {
            (Piece::LineEnd, 1)
        } else if first.is_whitespace() {
            let length = run(rest, |c| c.is_whitespace() && c != '\n');
            (Piece::Space, length)
        } else if first.is_ascii_digit() {
            let length = literal(rest);
            (Piece::Literal(rest.get(..length).unwrap_or_default()), length)
        } else if first.is_numeric() {
            let length = first.len_utf8();
            (Piece::ForeignDigit(rest.get(..length).unwrap_or_default()), length)
        } else if first.is_alphabetic() {
            let length = run(rest, |c| c.is_alphabetic() && !c.is_numeric());
            (Piece::Word(rest.get(..length).unwrap_or_default()), length)
        } else {
            (Piece::Mark(first), first.len_utf8())
        };
        pieces.push(piece);
        rest = rest.get(length..).unwrap_or_default();
    }
    pieces
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of the literal at the start: a separator belongs to it if a digit follows.
fn literal(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let follows = characters.peek().is_some_and(|(_, next)| next.is_ascii_digit());
        let separator = matches!(character, ',' | '.' | '\'' | '’' | '_' | '٫' | '٬') && follows;
        if !character.is_ascii_digit() && !separator {
            return at;
        }
    }
    text.len()
}
