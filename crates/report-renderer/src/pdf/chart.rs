//! Charts as vector graphics. Each is a figure with a description in words.
//!
//! Coordinates are floats, computed by operations that have the same result on every
//! machine: no logarithm of a library.

use krilla::{
    geom::Rect,
    tagging::{BBox, Tag},
};
use rust_decimal::{Decimal, prelude::ToPrimitive};

use super::{columns::count, draw::Draw, font::Weight, sheet::Sheet, style::*, text};
use crate::{
    axis::{MAX_LABELS, label, scale_end, tick},
    number::{self, short},
    series::{Series, Step},
};

/// Space for the amounts left of the axis.
const SCALE: f32 = 34.0;
/// The height of deposits above the axis, and of withdrawals below.
const HALF: f32 = 52.0;
const LABEL_SIZE: f32 = 6.5;

/// The height of a chart of volumes with its title.
pub(super) const VOLUMES_HEIGHT: f32 = 2.0 * HALF + 52.0;

/// Bars of a currency: deposits above the axis, withdrawals below.
pub(super) fn volumes(sheet: &mut Sheet<'_>, series: &Series, step: Step) {
    sheet.reserve(VOLUMES_HEIGHT);
    let top = sheet.y;
    let mut draws = legend(sheet, &series.currency, top);
    let axis = top + 22.0 + HALF;
    let amounts =
        series.points.iter().flat_map(|(_, point)| [point.deposits.1, point.withdrawals.1]);
    let largest = amounts.max().unwrap_or_default();
    let tick = tick(largest);
    let end = scale_end(largest, tick);
    grid(sheet, &mut draws, axis, tick, end);
    bars(sheet, &mut draws, series, step, axis, end);
    draws.push(Draw::rule(LEFT + SCALE, RIGHT, axis, 0.75, INK));
    figure(sheet, VOLUMES_HEIGHT, description(series, step), draws);
}

fn description(series: &Series, step: Step) -> String {
    let sum = |of: fn(&crate::series::Point) -> Decimal| {
        series
            .points
            .iter()
            .map(|(_, point)| of(point))
            .fold(Decimal::ZERO, Decimal::saturating_add)
    };
    format!(
        "Bars of {} by {}, deposits above the axis and withdrawals below. Deposits sum up to {}, \
         withdrawals to {}.",
        series.currency,
        step.name(),
        text::amount(sum(|point| point.deposits.1)),
        text::amount(sum(|point| point.withdrawals.1)),
    )
}

/// The currency, and the meaning of the colours.
fn legend(sheet: &Sheet<'_>, currency: &str, top: f32) -> Vec<Draw> {
    let bold = sheet.fonts.face(Weight::Bold).shape(currency);
    let y = top + 10.0;
    let mut draws =
        vec![Draw::Text { x: LEFT, y, line: bold, size: BODY, weight: Weight::Bold, color: INK }];
    let mut x = RIGHT;
    for (name, color) in [("Withdrawals", DEBIT), ("Deposits", CREDIT)] {
        let line = sheet.fonts.face(Weight::Regular).shape(name);
        x -= line.width * SMALL;
        draws.push(Draw::Text { x, y, line, size: SMALL, weight: Weight::Regular, color: MUTED });
        x -= 10.0;
        draws.push(Draw::Area { x, y: y - 6.0, width: 6.0, height: 6.0, color });
        x -= 14.0;
    }
    draws
}

/// Lines and amounts at every tick, above and below the axis.
fn grid(sheet: &Sheet<'_>, draws: &mut Vec<Draw>, axis: f32, tick: Decimal, end: Decimal) {
    let mut value = Decimal::ZERO;
    while value <= end {
        let distance = share(value, end) * HALF;
        for y in if value.is_zero() { vec![axis] } else { vec![axis - distance, axis + distance] } {
            draws.push(Draw::rule(LEFT + SCALE, RIGHT, y, 0.4, HAIRLINE));
            let x = LEFT + SCALE - 6.0;
            draws.push(small(sheet, &short(value), x, y + LABEL_SIZE * 0.35, Anchor::End));
        }
        value += tick;
    }
}

fn bars(
    sheet: &Sheet<'_>,
    draws: &mut Vec<Draw>,
    series: &Series,
    step: Step,
    axis: f32,
    end: Decimal,
) {
    let width = (WIDTH - SCALE) / count(series.points.len()).max(1.0);
    let bar = (width * 0.7).min(28.0);
    let every = series.points.len().div_ceil(MAX_LABELS).max(1);
    for (index, (name, point)) in series.points.iter().enumerate() {
        let x = LEFT + SCALE + width * count(index) + (width - bar) / 2.0;
        let up = share(point.deposits.1, end) * HALF;
        let down = share(point.withdrawals.1, end) * HALF;
        draws.push(Draw::Area { x, y: axis - up, width: bar, height: up, color: CREDIT });
        draws.push(Draw::Area { x, y: axis, width: bar, height: down, color: DEBIT });
        if index.is_multiple_of(every) {
            let y = axis + HALF + 12.0;
            draws.push(small(sheet, label(name, step), x + bar / 2.0, y, Anchor::Middle));
        }
    }
}

/// A horizontal bar with its label and value.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: String,
    /// Its length: 0 to 1.
    pub(super) share: f32,
    pub(super) color: Color,
}

/// Horizontal bars. Many of them are several figures.
pub(super) fn horizontal(
    sheet: &mut Sheet<'_>,
    description: &str,
    bars: &[Bar],
    ticks: &[(String, f32)],
) {
    const ROW: f32 = 17.0;
    const NAMES: f32 = 130.0;
    const VALUES: f32 = 110.0;
    for bars in bars.chunks(24) {
        let height = count(bars.len()) * ROW + if ticks.is_empty() { 8.0 } else { 22.0 };
        sheet.reserve(height);
        let (top, left, room) = (sheet.y, LEFT + NAMES, WIDTH - NAMES - VALUES);
        let end = top + count(bars.len()) * ROW;
        let mut draws = Vec::new();
        for (name, share) in ticks {
            let x = left + share * room;
            let points = vec![(x, top), (x, end)];
            draws.push(Draw::Stroke { points, width: 0.4, color: HAIRLINE });
            draws.push(small(sheet, name, x, end + 9.0, Anchor::Middle));
        }
        for (index, bar) in bars.iter().enumerate() {
            let y = top + count(index) * ROW;
            let (weight, size) = (Weight::Regular, 8.5);
            let face = sheet.fonts.face(weight);
            let line = text::shorten(face, &bar.label, size, NAMES - 8.0);
            draws.push(Draw::Text { x: LEFT, y: y + 11.0, line, size, weight, color: INK });
            let width = (bar.share * room).max(0.75);
            let (height, color) = (ROW - 6.0, bar.color);
            draws.push(Draw::Area { x: left, y: y + 3.0, width, height, color });
            let line = face.shape(&bar.value);
            let size = text::size_that_fits(
                face,
                [bar.value.as_str()].into_iter(),
                &VALUE_SIZES,
                VALUES - 8.0,
            );
            let x = RIGHT - line.width * size;
            draws.push(Draw::Text { x, y: y + 11.0, line, size, weight, color: INK });
        }
        draws.push(Draw::Stroke {
            points: vec![(left, top), (left, end)],
            width: 0.75,
            color: INK,
        });
        let values = bars.iter().map(|bar| format!("{}: {}", bar.label, bar.value));
        let values = values.collect::<Vec<_>>().join("; ");
        figure(sheet, height, format!("{description} {values}."), draws);
    }
}

const VALUE_SIZES: [f32; 6] = [8.5, 7.5, 6.5, 5.5, 4.5, 3.5];

/// A figure from the top of the free space on.
fn figure(sheet: &mut Sheet<'_>, height: f32, description: String, draws: Vec<Draw>) {
    let mut tag = Tag::Figure(Some(description));
    if let Some(area) = Rect::from_xywh(LEFT, sheet.y, WIDTH, height) {
        tag = tag.with_bbox(Some(BBox::new(sheet.page(), area)));
    }
    sheet.open(tag);
    sheet.content(draws);
    sheet.close();
    sheet.y += height + 8.0;
}

enum Anchor {
    Middle,
    End,
}

/// A text at an axis.
fn small(sheet: &Sheet<'_>, text: &str, x: f32, y: f32, anchor: Anchor) -> Draw {
    let line = sheet.fonts.face(Weight::Regular).shape(text);
    let width = line.width * LABEL_SIZE;
    let x = match anchor {
        Anchor::Middle => x - width / 2.0,
        Anchor::End => x - width,
    };
    Draw::Text { x, y, line, size: LABEL_SIZE, weight: Weight::Regular, color: MUTED }
}

/// The part of the whole: 0 to 1.
pub(super) fn share(part: Decimal, whole: Decimal) -> f32 {
    if whole.is_zero() {
        return 0.0;
    }
    part.checked_div(whole).and_then(|share| share.to_f32()).unwrap_or_default().clamp(0.0, 1.0)
}

/// The place of a duration on a logarithmic scale from 1 ms to `longest`: 0 to 1.
pub(super) fn log_share(ms: u64, longest: u64) -> f32 {
    (log10(ms) / log10(longest).max(1.0)).clamp(0.0, 1.0)
}

/// The powers of ten up to `longest`, with their places.
pub(super) fn log_ticks(longest: u64) -> Vec<(String, f32)> {
    let powers = std::iter::successors(Some(1_u64), |power| power.checked_mul(10));
    let ticks = powers.take_while(|power| *power <= longest.max(10));
    let name = |power: u64| match power {
        0..1_000 => format!("{power} ms"),
        _ => format!("{} s", number::count(power / 1_000)),
    };
    ticks.map(|power| (name(power), log_share(power, longest))).collect()
}

/// The logarithm with three decimals, by multiplications only.
fn log10(value: u64) -> f32 {
    let (mut whole, mut divisor) = (0_u16, 1_u64);
    while value / divisor >= 10 {
        divisor = divisor.saturating_mul(10);
        whole = whole.saturating_add(1);
    }
    let value = Decimal::from(value.max(1)) / Decimal::from(divisor);
    let mut rest = value.to_f64().unwrap_or(1.0);
    let (mut result, mut digit) = (f32::from(whole), 0.1);
    for _ in 0..3 {
        let square = rest * rest;
        let fourth = square * square;
        rest = fourth * fourth * square;
        while rest >= 10.0 {
            rest /= 10.0;
            result += digit;
        }
        digit /= 10.0;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_has_three_decimals() {
        for value in [1, 2, 9, 10, 18, 64, 412, 999, 1_000, 61_250, 86_400_000] {
            #[allow(clippy::as_conversions, clippy::cast_precision_loss)]
            let expected = (value as f64).log10() as f32;
            assert!((log10(value) - expected).abs() < 0.0011, "{value}: {}", log10(value));
        }
        assert!(log10(0).abs() < f32::EPSILON);
    }

    #[test]
    fn a_part_is_never_longer_than_the_whole() {
        let one = Decimal::ONE;
        assert_eq!(share(Decimal::TEN, one), 1.0);
        assert_eq!(share(one, Decimal::ZERO), 0.0);
        assert_eq!(share(Decimal::MAX, Decimal::new(1, 28)), 0.0);
        assert!((log_share(5, 0) - 0.698).abs() < 1e-4);
    }
}
