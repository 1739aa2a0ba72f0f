//! Text that fits into a width: wrapped, shortened, or in a smaller size.

use rust_decimal::Decimal;

use super::font::{Face, Line};
use crate::number::grouped;

const ELLIPSIS: &str = "\u{2026}";

/// A decimal in groups, with a minus sign instead of a hyphen.
pub(super) fn amount(value: Decimal) -> String {
    grouped(value).replace('-', "\u{2212}")
}

/// The text in lines of at most `width` points, at most `limit` lines. A longer text
/// ends in an ellipsis. A line breaks at a space, or inside a word that is too long.
pub(super) fn wrap(face: &Face, text: &str, size: f32, width: f32, limit: usize) -> Vec<Line> {
    if limit == 1 {
        return vec![shorten(face, text, size, width)];
    }
    let (mut lines, mut current, mut filled) = (Vec::new(), String::new(), 0.0_f32);
    for word in text.split_inclusive(char::is_whitespace) {
        let measured = face.shape(word.trim_end()).width * size;
        if filled + measured > width && !current.is_empty() {
            lines.push(std::mem::take(&mut current));
            filled = 0.0;
        }
        for piece in pieces(face, word, size, width, limit) {
            if !current.is_empty() && filled + face.shape(piece.trim_end()).width * size > width {
                lines.push(std::mem::take(&mut current));
                filled = 0.0;
            }
            current.push_str(piece);
            filled += face.shape(piece).width * size;
        }
        // One more line than fits is enough to know that the text is too long.
        if lines.len() > limit {
            break;
        }
    }
    if !current.trim_end().is_empty() || lines.is_empty() {
        lines.push(current);
    }
    if lines.len() > limit {
        let rest: String = lines.drain(limit.saturating_sub(1)..).collect();
        let mut lines: Vec<Line> = lines.iter().map(|line| face.shape(line)).collect();
        lines.push(shorten(face, &rest, size, width));
        return lines;
    }
    lines.iter().map(|line| face.shape(line)).collect()
}

/// A word in pieces that fit. After `limit` pieces the rest is one piece.
fn pieces<'a>(face: &Face, word: &'a str, size: f32, width: f32, limit: usize) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut rest = word;
    if face.shape(rest.trim_end()).width * size > width {
        while pieces.len() < limit {
            // At least one character is taken, or this never ends.
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let taken = fitting(face, rest, size, width).max(first);
            match rest.split_at_checked(taken) {
                Some((piece, after)) if !after.is_empty() => {
                    pieces.push(piece);
                    rest = after;
                }
                _ => break,
            }
        }
    }
    pieces.push(rest);
    pieces
}

/// The number of bytes that fit.
fn fitting(face: &Face, text: &str, size: f32, width: f32) -> usize {
    let (mut filled, mut bytes) = (0.0, 0_usize);
    for (start, character) in text.char_indices() {
        let mut buffer = [0; 4];
        filled += face.shape(character.encode_utf8(&mut buffer)).width * size;
        if filled > width {
            break;
        }
        bytes = start.saturating_add(character.len_utf8());
    }
    bytes
}

/// The text in one line of at most `width` points. A longer text ends in an ellipsis.
pub(super) fn shorten(face: &Face, text: &str, size: f32, width: f32) -> Line {
    let line = face.shape(text.trim_end());
    if line.width * size <= width {
        return line;
    }
    let dots = face.shape(ELLIPSIS).width * size;
    let kept = text.get(..fitting(face, text, size, width - dots)).unwrap_or_default();
    face.shape(&format!("{}{ELLIPSIS}", kept.trim_end()))
}

/// The largest of the sizes in which all texts fit, else the smallest.
pub(super) fn size_that_fits<'a>(
    face: &Face,
    texts: impl Iterator<Item = &'a str> + Clone,
    sizes: &[f32],
    width: f32,
) -> f32 {
    let widest = texts.map(|text| face.shape(text).width).fold(0.0, f32::max);
    let fits = sizes.iter().find(|size| widest * **size <= width);
    fits.or(sizes.last()).copied().unwrap_or(8.0)
}

#[cfg(test)]
mod tests {
    use super::{
        super::font::{Fonts, Weight},
        *,
    };

    fn texts(text: &str, width: f32, limit: usize) -> Vec<String> {
        let fonts = Fonts::load().unwrap();
        let face = fonts.face(Weight::Regular);
        let lines = wrap(face, text, 10.0, width, limit);
        for line in &lines {
            // A line may end in the space before the break.
            let visible = face.shape(line.text.trim_end());
            assert!(visible.width * 10.0 <= width + 0.01, "{:?} is too wide", line.text);
        }
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_text_breaks_at_spaces() {
        assert_eq!(texts("one two three", 1_000.0, 3), ["one two three"]);
        assert_eq!(texts("one two three", 45.0, 3), ["one two ", "three"]);
        assert_eq!(texts("", 45.0, 3), [""]);
    }

    #[test]
    fn a_long_word_breaks_inside() {
        let lines = texts(&"w".repeat(255), 100.0, 100);
        assert!(lines.len() > 15);
        assert_eq!(lines.concat(), "w".repeat(255));
        let lines = texts(&format!("ab {}", "\u{d55c}".repeat(40)), 100.0, 100);
        assert_eq!(lines.concat(), format!("ab {}", "\u{d55c}".repeat(40)));
    }

    #[test]
    fn a_text_with_too_many_lines_ends_in_an_ellipsis() {
        let lines = texts(&"word ".repeat(100), 100.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('\u{2026}'), "{lines:?}");
        assert_eq!(texts(&"m".repeat(255), 60.0, 1).len(), 1);
    }

    #[test]
    fn nothing_is_lost_when_a_text_is_wrapped() {
        let text = "a fairly long sentence with Jos\u{e9}, \u{d55c}\u{ad6d} and 12,345.67 in it";
        for width in [30.0, 50.0, 80.0, 200.0] {
            assert_eq!(texts(text, width, 100).concat(), text);
        }
    }

    #[test]
    fn an_amount_has_a_minus_sign() {
        assert_eq!(amount(Decimal::new(-123_450, 2)), "\u{2212}1,234.50");
        assert_eq!(amount(Decimal::new(1_234_567, 0)), "1,234,567");
    }

    #[test]
    fn the_largest_size_that_fits_is_taken() {
        let fonts = Fonts::load().unwrap();
        let face = fonts.face(Weight::Regular);
        let sizes = [12.0, 9.0, 6.0];
        let size = |text: &str, width| size_that_fits(face, [text].into_iter(), &sizes, width);
        assert_eq!(size("12", 100.0), 12.0);
        assert_eq!(size("999,999,999,999,999,999.9999", 130.0), 6.0);
        assert_eq!(size("12", 0.0), 6.0);
    }
}
