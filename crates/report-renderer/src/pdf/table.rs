//! Tables over any number of pages. The column headers are repeated on each page; for
//! a screen reader only the first ones are content.

use krilla::tagging::{TableHeaderScope, Tag};

use super::{
    draw::Draw,
    font::{Line, Weight},
    sheet::Sheet,
    style::*,
    text,
};

/// Space between a cell's border and its text, at the sides.
pub(super) const SIDE: f32 = 5.0;
/// Space above and below the text of a row.
const ABOVE: f32 = 3.2;
/// The header's size, as a multiple of the table's.
const HEADER: f32 = 0.9;
/// Lines of a cell. A row is never higher than a page.
const CELL_LINES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A column with its width, the space at its sides included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) align: Align,
    pub(super) width: f32,
}

/// A paragraph of a cell.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) text: String,
    pub(super) weight: Weight,
    pub(super) color: Color,
    /// Its size, as a multiple of the table's.
    pub(super) scale: f32,
    /// The most lines. A longer text ends in an ellipsis.
    pub(super) lines: usize,
}

impl Part {
    const fn new(text: String) -> Self {
        Self { text, weight: Weight::Regular, color: INK, scale: 1.0, lines: CELL_LINES }
    }
}

/// A cell. The first cell of a row is its header.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell(pub(super) Vec<Part>);

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(vec![Part::new(text.into())])
    }

    pub(super) fn colored(text: impl Into<String>, color: Color) -> Self {
        Self(vec![Part { weight: Weight::Bold, color, ..Part::new(text.into()) }])
    }

    pub(super) fn bold(mut self) -> Self {
        self.0.iter_mut().for_each(|part| part.weight = Weight::Bold);
        self
    }

    /// Another paragraph, in small print.
    pub(super) fn note(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part { color: MUTED, scale: NOTE, ..Part::new(text.into()) });
        self
    }

    /// Another paragraph of this many lines at most, in the size of a note.
    pub(super) fn text(mut self, text: &str, lines: usize) -> Self {
        self.0.push(Part { scale: NOTE, lines, ..Part::new(text.to_owned()) });
        self
    }

    /// The last paragraph has this many lines at most.
    pub(super) fn lines(mut self, lines: usize) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.lines = lines;
        }
        self
    }

    /// No paragraph has a second line.
    pub(super) fn in_one_line(mut self) -> Self {
        self.0.iter_mut().for_each(|part| part.lines = 1);
        self
    }
}

/// The size of a note, as a multiple of the table's.
pub(super) const NOTE: f32 = 0.82;

/// A table that is open.
pub(super) struct Table {
    columns: Vec<Column>,
    size: f32,
    /// The lines between the rows of this page.
    rules: Vec<Draw>,
}

impl Table {
    /// Begins a table with its column headers.
    pub(super) fn begin(
        sheet: &mut Sheet<'_>,
        summary: &str,
        columns: Vec<Column>,
        size: f32,
    ) -> Self {
        let table = Self { columns, size, rules: Vec::new() };
        sheet.reserve(table.header_height() + table.row_height(2.0) * 2.0);
        sheet.open(Tag::Table.with_summary(Some(summary.to_owned())));
        sheet.open(Tag::THead);
        sheet.open(Tag::TR);
        let headers = table.header(sheet);
        for header in headers {
            sheet.open(Tag::TH(TableHeaderScope::Column));
            sheet.content(header);
            sheet.close();
        }
        sheet.close();
        sheet.close();
        sheet.open(Tag::TBody);
        table
    }

    /// The height of a row with so many lines of the table's size.
    pub(super) fn row_height(&self, lines: f32) -> f32 {
        lines * self.size * LEADING + 2.0 * ABOVE
    }

    fn header_height(&self) -> f32 {
        self.size * HEADER * LEADING + 2.0 * ABOVE
    }

    /// The marks of each column header.
    fn header(&self, sheet: &mut Sheet<'_>) -> Vec<Vec<Draw>> {
        let (size, height, top) = (self.size * HEADER, self.header_height(), sheet.y);
        sheet.decorate(vec![
            Draw::Area { x: LEFT, y: top, width: WIDTH, height, color: SHADE },
            Draw::rule(LEFT, RIGHT, top + height, 0.75, ACCENT),
        ]);
        sheet.y += height;
        let face = sheet.fonts.face(Weight::Bold);
        let y = top + ABOVE + size * ASCENT;
        self.places()
            .map(|(column, x)| {
                let line = text::shorten(face, column.title, size, column.width - 2.0 * SIDE);
                let x = column.start(x, &line, size);
                vec![Draw::Text { x, y, line, size, weight: Weight::Bold, color: ACCENT }]
            })
            .collect()
    }

    /// Each column with its left edge.
    fn places(&self) -> impl Iterator<Item = (&Column, f32)> {
        self.columns.iter().scan(LEFT, |x, column| {
            let left = *x;
            *x += column.width;
            Some((column, left))
        })
    }

    /// Makes room for a row.
    fn reserve(&mut self, sheet: &mut Sheet<'_>, height: f32) {
        if sheet.y + height <= BOTTOM {
            return;
        }
        self.flush(sheet);
        sheet.break_page();
        let headers = self.header(sheet);
        sheet.decorate(headers.into_iter().flatten().collect());
    }

    fn flush(&mut self, sheet: &mut Sheet<'_>) {
        if !self.rules.is_empty() {
            sheet.decorate(std::mem::take(&mut self.rules));
        }
    }

    /// Counts a row of this height.
    pub(super) fn skip(&mut self, sheet: &mut Sheet<'_>, height: f32) {
        self.reserve(sheet, height);
        sheet.y += height;
    }

    /// Adds a row.
    pub(super) fn row(&mut self, sheet: &mut Sheet<'_>, cells: &[Cell]) {
        let (cells, height) = self.set(sheet, cells);
        self.reserve(sheet, height);
        let (first, top) = (sheet.y, sheet.y + ABOVE);
        sheet.open(Tag::TR);
        let columns = self.places().map(|(column, x)| (*column, x)).collect::<Vec<_>>();
        for (index, ((column, x), lines)) in columns.into_iter().zip(cells).enumerate() {
            if index == 0 {
                sheet.open(Tag::TH(TableHeaderScope::Row));
            } else {
                sheet.open(Tag::TD);
            }
            let mut y = top;
            let mut draws = Vec::with_capacity(lines.len());
            for (line, part) in lines {
                let size = self.size * part.scale;
                let (x, weight, color) = (column.start(x, &line, size), part.weight, part.color);
                draws.push(Draw::Text { x, y: y + size * ASCENT, line, size, weight, color });
                y += size * LEADING;
            }
            if !draws.is_empty() {
                sheet.content(draws);
            }
            sheet.close();
        }
        sheet.close();
        sheet.y = first + height;
        if !sheet.is_counting() {
            self.rules.push(Draw::rule(LEFT, RIGHT, sheet.y, 0.4, HAIRLINE));
        }
    }

    /// The lines of each cell, and the height of the row.
    fn set<'c>(&self, sheet: &Sheet<'_>, cells: &'c [Cell]) -> (Vec<Vec<(Line, &'c Part)>>, f32) {
        let mut height = 0.0_f32;
        let mut set = Vec::with_capacity(cells.len());
        for (column, cell) in self.columns.iter().zip(cells) {
            let (mut lines, mut filled) = (Vec::new(), 0.0);
            for part in cell.0.iter().filter(|part| !part.text.is_empty()) {
                let (face, size) = (sheet.fonts.face(part.weight), self.size * part.scale);
                let room = column.width - 2.0 * SIDE;
                for line in text::wrap(face, &part.text, size, room, part.lines) {
                    filled += size * LEADING;
                    lines.push((line, part));
                }
            }
            height = height.max(filled);
            set.push(lines);
        }
        (set, height + 2.0 * ABOVE)
    }

    /// Ends the table.
    pub(super) fn end(mut self, sheet: &mut Sheet<'_>) {
        self.flush(sheet);
        sheet.close();
        sheet.close();
        sheet.y += 14.0;
    }
}

impl Column {
    /// Where a line of a cell begins.
    fn start(&self, left: f32, line: &Line, size: f32) -> f32 {
        match self.align {
            Align::Left => left + SIDE,
            Align::Right => left + self.width - SIDE - line.width * size,
        }
    }
}
