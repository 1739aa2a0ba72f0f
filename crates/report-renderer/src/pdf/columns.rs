//! The widths of a table's columns, from the texts in them.

use super::{
    font::{Fonts, Weight},
    sheet::Sheet,
    style::WIDTH,
    table::{Align, Cell, Column, SIDE, Table},
};

/// The sizes of a table. The largest that fits is taken.
pub(super) const SIZES: [f32; 7] = [8.5, 8.0, 7.5, 7.0, 6.5, 6.0, 5.5];
/// Less than this is too narrow for a column of prose.
const NARROW: f32 = 90.0;

/// How wide a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// As wide as its widest text. The text is never broken.
    Fit,
    /// What the other columns leave. The text is wrapped.
    Fill,
}

/// A column without its width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) title: &'static str,
    pub(super) align: Align,
    pub(super) room: Room,
}

impl Plan {
    /// A column of names or ids.
    pub(super) const fn text(title: &'static str) -> Self {
        Self { title, align: Align::Left, room: Room::Fit }
    }

    /// A column of numbers.
    pub(super) const fn number(title: &'static str) -> Self {
        Self { title, align: Align::Right, room: Room::Fit }
    }

    /// A column of prose.
    pub(super) const fn prose(title: &'static str) -> Self {
        Self { title, align: Align::Left, room: Room::Fill }
    }
}

/// A table of rows that are in memory.
pub(super) fn table(sheet: &mut Sheet<'_>, summary: &str, plans: &[Plan], rows: &[Vec<Cell>]) {
    let natural = natural(sheet.fonts, plans, rows);
    let (widths, size) = widths(plans, &natural);
    let columns = plans.iter().zip(widths).map(|(plan, width)| Column {
        title: plan.title,
        align: plan.align,
        width,
    });
    let mut table = Table::begin(sheet, summary, columns.collect(), size);
    for row in rows {
        table.row(sheet, row);
    }
    table.end(sheet);
}

/// The widest text of each column, as a multiple of the font size.
fn natural(fonts: &Fonts, plans: &[Plan], rows: &[Vec<Cell>]) -> Vec<f32> {
    let header = |plan: &Plan| fonts.face(Weight::Bold).shape(plan.title).width;
    let mut widest: Vec<f32> = plans.iter().map(header).collect();
    for row in rows {
        for (width, cell) in widest.iter_mut().zip(row) {
            for part in &cell.0 {
                let text = fonts.face(part.weight).shape(&part.text).width * part.scale;
                *width = width.max(text);
            }
        }
    }
    widest
}

/// The widths of all columns, which fill the page, and the font size.
fn widths(plans: &[Plan], natural: &[f32]) -> (Vec<f32>, f32) {
    let fill = |plan: &Plan| plan.room == Room::Fill;
    let prose = plans.iter().filter(|plan| fill(plan)).count();
    for size in SIZES {
        let wanted: Vec<f32> = natural.iter().map(|width| width * size + 2.0 * SIDE).collect();
        let columns = || plans.iter().zip(&wanted);
        let fitted: f32 = columns().filter(|(plan, _)| !fill(plan)).map(|(_, width)| width).sum();
        let filled: f32 = columns().filter(|(plan, _)| fill(plan)).map(|(_, width)| width).sum();
        let left = WIDTH - fitted;
        if fitted + filled <= WIDTH {
            // The surplus goes to the prose, else to all columns.
            let shares = if prose > 0 { prose } else { plans.len() };
            let surplus = (left - filled) / count(shares);
            let width = |(plan, width): (&Plan, &f32)| {
                if prose == 0 || fill(plan) { width + surplus } else { *width }
            };
            return (columns().map(width).collect(), size);
        }
        if prose > 0 && left >= NARROW * count(prose) {
            let width = |(plan, width): (&Plan, &f32)| {
                if fill(plan) { left * width / filled } else { *width }
            };
            let widths: Vec<f32> = columns().map(width).collect();
            let narrow = columns()
                .zip(&widths)
                .any(|((plan, wanted), width)| fill(plan) && *width < NARROW && *width < *wanted);
            if !narrow {
                return (widths, size);
            }
            let even = |(plan, width): (&Plan, &f32)| {
                if fill(plan) { left / count(prose) } else { *width }
            };
            return (columns().map(even).collect(), size);
        }
    }
    // Nothing fits: every column is narrowed, and its texts are wrapped.
    let all: f32 = natural.iter().sum();
    let widths = natural.iter().map(|width| WIDTH * width / all.max(f32::EPSILON)).collect();
    (widths, SIZES.last().copied().unwrap_or(8.0))
}

/// A small number as a float.
pub(super) fn count(number: usize) -> f32 {
    u16::try_from(number).map_or_else(|_| f32::from(u16::MAX), f32::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(widths: &[f32]) -> f32 {
        widths.iter().sum()
    }

    #[test]
    fn columns_fill_the_page() {
        let plans = [Plan::text("A"), Plan::number("B"), Plan::prose("C")];
        for natural in [[5.0, 5.0, 5.0], [5.0, 5.0, 500.0], [20.0, 30.0, 10.0], [40.0, 90.0, 70.0]]
        {
            let (widths, _) = widths(&plans, &natural);
            assert!((sum(&widths) - WIDTH).abs() < 0.1, "{widths:?}");
        }
        let (widths, size) = widths(&plans[..2], &[5.0, 5.0]);
        assert!((sum(&widths) - WIDTH).abs() < 0.1);
        assert_eq!(size, SIZES[0]);
    }

    #[test]
    fn numbers_keep_their_width_and_prose_is_wrapped() {
        let plans = [Plan::number("A"), Plan::prose("B")];
        let (widths, size) = widths(&plans, &[20.0, 500.0]);
        assert_eq!(size, SIZES[0]);
        assert!((widths[0] - (20.0 * size + 2.0 * SIDE)).abs() < 0.01);
    }

    #[test]
    fn wide_numbers_make_the_font_smaller() {
        let plans = [Plan::number("A"), Plan::number("B"), Plan::number("C")];
        let (widths, size) = widths(&plans, &[24.0, 24.0, 24.0]);
        assert!(size < SIZES[0]);
        assert!(widths.iter().all(|width| *width >= 24.0 * size + 2.0 * SIDE));
    }
}
