//! The parts that all documents have: the letterhead, facts with labels, and figures
//! in boxes.

use krilla::tagging::Tag;

use super::{
    columns::count,
    draw::Draw,
    font::Weight,
    sheet::{Paragraph, Sheet},
    style::*,
    text,
};

/// The issuer, the title and the period, at the top of the first page.
pub(super) fn head(sheet: &mut Sheet<'_>, issuer: &str, title: &str, subtitle: &str) {
    sheet.y = 40.0;
    let name = Paragraph { size: 13.0, weight: Weight::Bold, lines: 2, ..Paragraph::default() };
    sheet.paragraph(issuer, name);
    sheet.y += 5.0;
    sheet.decorate(vec![Draw::rule(LEFT, RIGHT, sheet.y, 1.5, ACCENT)]);
    sheet.y += 22.0;
    sheet.heading(1, title, 0.0);
    let style = Paragraph { size: 11.0, color: MUTED, lines: 2, ..Paragraph::default() };
    sheet.paragraph(subtitle, style);
    sheet.y += 14.0;
}

/// Lines of a label and its value. A long value has up to four lines.
pub(super) fn facts(sheet: &mut Sheet<'_>, facts: &[(&str, String)]) {
    const LABEL: f32 = 92.0;
    for (label, value) in facts {
        let label_style =
            Paragraph { color: MUTED, width: LABEL, lines: 1, ..Paragraph::default() };
        let value_style =
            Paragraph { x: LEFT + LABEL, width: WIDTH - LABEL, lines: 4, ..Paragraph::default() };
        let top = sheet.y;
        sheet.paragraph(label, label_style);
        sheet.y = top;
        sheet.paragraph(value, value_style);
        sheet.y += 2.0;
    }
    sheet.y += 10.0;
}

/// A figure in a box.
pub(super) struct Tile {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) note: String,
}

impl Tile {
    pub(super) fn new(label: &'static str, value: String, note: String) -> Self {
        Self { label, value, note }
    }
}

/// Figures side by side. They have the same size, the largest that fits.
pub(super) fn tiles(sheet: &mut Sheet<'_>, tiles: &[Tile]) {
    const GAP: f32 = 8.0;
    const INSET: f32 = 9.0;
    const SIZES: [f32; 9] = [13.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0];
    let width = (WIDTH + GAP) / count(tiles.len()).max(1.0) - GAP;
    let room = width - 2.0 * INSET;
    let noted = tiles.iter().any(|tile| !tile.note.is_empty());
    let height = if noted { 58.0 } else { 44.0 };
    sheet.reserve(height + 18.0);
    let (fonts, top) = (sheet.fonts, sheet.y);
    let values = tiles.iter().map(|tile| tile.value.as_str());
    let size = text::size_that_fits(fonts.face(Weight::Bold), values, &SIZES, room);
    let left = |index: usize| LEFT + count(index) * (width + GAP);
    let boxes = (0..tiles.len()).flat_map(|index| {
        let (x, y) = (left(index), top);
        [Draw::Area { x, y, width, height, color: SHADE }, Draw::rule(x, x + width, y, 1.0, ACCENT)]
    });
    sheet.decorate(boxes.collect());
    for (index, tile) in tiles.iter().enumerate() {
        let x = left(index) + INSET;
        let line = |text: &str, size: f32, weight, color, y: f32| {
            let line = text::shorten(fonts.face(weight), text, size, room);
            vec![Draw::Text { x, y: top + y, line, size, weight, color }]
        };
        sheet.open(Tag::P);
        sheet.content(line(tile.label, SMALL, Weight::Regular, MUTED, 16.0));
        sheet.content(line(&tile.value, size, Weight::Bold, INK, 34.0));
        if !tile.note.is_empty() {
            sheet.content(line(&tile.note, SMALL, Weight::Regular, MUTED, 49.0));
        }
        sheet.close();
    }
    sheet.y = top + height + 18.0;
}
