//! The sizes and colours of the documents, in points on A4.

use krilla::color::rgb;

pub(super) const PAGE_WIDTH: f32 = 595.28;
pub(super) const PAGE_HEIGHT: f32 = 841.89;
pub(super) const LEFT: f32 = 50.0;
pub(super) const RIGHT: f32 = PAGE_WIDTH - 50.0;
pub(super) const WIDTH: f32 = RIGHT - LEFT;
/// The top of the content below the running header.
pub(super) const TOP: f32 = 74.0;
/// The end of the content above the footer.
pub(super) const BOTTOM: f32 = PAGE_HEIGHT - 62.0;

/// A line's height, as a multiple of the font size.
pub(super) const LEADING: f32 = 1.35;
/// The distance from the top of a line to its baseline, as a multiple of the font size.
pub(super) const ASCENT: f32 = 1.0;

pub(super) const TITLE: f32 = 21.0;
pub(super) const HEADING: f32 = 12.0;
pub(super) const BODY: f32 = 9.5;
pub(super) const SMALL: f32 = 7.5;

/// A colour, by red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Color(u8, u8, u8);

impl From<Color> for rgb::Color {
    fn from(Color(red, green, blue): Color) -> Self {
        Self::new(red, green, blue)
    }
}

pub(super) const INK: Color = Color(0x1b, 0x21, 0x2b);
pub(super) const MUTED: Color = Color(0x5a, 0x64, 0x72);
pub(super) const ACCENT: Color = Color(0x16, 0x3a, 0x5f);
pub(super) const HAIRLINE: Color = Color(0xd4, 0xd9, 0xe0);
pub(super) const SHADE: Color = Color(0xf3, 0xf5, 0xf8);
/// Deposits in charts. Dark enough to differ from withdrawals in grey.
pub(super) const CREDIT: Color = Color(0x1f, 0x5f, 0x8b);
/// Withdrawals in charts.
pub(super) const DEBIT: Color = Color(0xd9, 0x8c, 0x4a);
pub(super) const GOOD: Color = Color(0x1d, 0x6b, 0x42);
pub(super) const BAD: Color = Color(0xa8, 0x2a, 0x2a);
