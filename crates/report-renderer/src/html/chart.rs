//! Charts as SVG inside the page. Coordinates are decimals with one place, computed
//! without floats. Colours come from the style, so that they fit both themes.

use rust_decimal::Decimal;

use super::{
    markup::Markup,
    series::{Series, Step},
};
use crate::number;

const WIDTH: i64 = 960;
const LEFT: i64 = 58;
/// Half of the last name below the axis.
const RIGHT: i64 = 18;
const HALF: i64 = 104;
const TOP: i64 = 12;
const AXIS: i64 = TOP + HALF;
const HEIGHT: i64 = AXIS + HALF + 30;
/// The most names below the axis.
const MAX_LABELS: usize = 11;

/// Bars of a currency: deposits above the axis, withdrawals below.
pub(super) fn volumes(html: &mut Markup, series: &Series, step: Step) {
    let points = &series.points;
    let largest = points
        .iter()
        .flat_map(|(_, point)| [point.deposits.1, point.withdrawals.1])
        .max()
        .unwrap_or_default();
    let tick = tick(largest);
    let top = scale_end(largest, tick);
    let height = |amount: Decimal| place(amount / top * Decimal::from(HALF));

    html.raw("<svg class=\"chart\" role=\"img\" viewBox=\"0 0 ").text(WIDTH).raw(" ").text(HEIGHT);
    html.raw("\" aria-label=\"").text(format_args!(
        "{} by {}: deposits above the axis, withdrawals below. The table has the figures.",
        series.currency,
        step.name(),
    ));
    html.raw("\">\n");
    grid(html, tick, top);
    let width = Decimal::from(WIDTH - LEFT - RIGHT) / Decimal::from(points.len().max(1));
    let (bar, gap) = (width * Decimal::new(7, 1), width * Decimal::new(15, 2));
    let every = points.len().div_ceil(MAX_LABELS).max(1);
    for (index, (name, point)) in points.iter().enumerate() {
        let x = Decimal::from(LEFT) + width * Decimal::from(index);
        let up = height(point.deposits.1);
        let axis = Decimal::from(AXIS);
        rectangle(html, "in", [place(x + gap), axis - up, place(bar), up], |html| {
            html.text(name).raw(": deposits ").text(number::grouped(point.deposits.1));
        });
        let down = height(point.withdrawals.1);
        rectangle(html, "out", [place(x + gap), axis, place(bar), down], |html| {
            html.text(name).raw(": withdrawals ").text(number::grouped(point.withdrawals.1));
        });
        if index.is_multiple_of(every) {
            let middle = place(x + width / Decimal::TWO);
            html.raw("<text class=\"x\" x=\"").text(middle).raw("\" y=\"").text(HEIGHT - 8);
            html.raw("\">").text(label(name, step)).raw("</text>\n");
        }
    }
    html.raw("<line class=\"axis\" x1=\"")
        .text(LEFT)
        .raw("\" x2=\"")
        .text(WIDTH - RIGHT)
        .raw("\" y1=\"");
    html.text(AXIS).raw("\" y2=\"").text(AXIS).raw("\"/>\n</svg>\n");
}

/// Lines and amounts at every tick, above and below the axis.
fn grid(html: &mut Markup, tick: Decimal, top: Decimal) {
    let mut value = Decimal::ZERO;
    while value <= top {
        let distance = place(value / top * Decimal::from(HALF));
        let both = [Decimal::from(AXIS) - distance, Decimal::from(AXIS) + distance];
        let lines = if value.is_zero() { 1 } else { 2 };
        for y in both.into_iter().take(lines) {
            html.raw("<line class=\"grid\" x1=\"").text(LEFT).raw("\" x2=\"").text(WIDTH - RIGHT);
            html.raw("\" y1=\"").text(y).raw("\" y2=\"").text(y).raw("\"/><text class=\"y\" x=\"");
            html.text(LEFT - 8).raw("\" y=\"").text(y + Decimal::from(4)).raw("\">");
            html.text(number::short(value)).raw("</text>\n");
        }
        value += tick;
    }
}

/// A bar with a title, which browsers show under the pointer.
fn rectangle(
    html: &mut Markup,
    class: &'static str,
    [x, y, width, height]: [Decimal; 4],
    title: impl FnOnce(&mut Markup),
) {
    if height.is_zero() {
        return;
    }
    html.raw("<rect class=\"").raw(class).raw("\" x=\"").text(x).raw("\" y=\"").text(y);
    html.raw("\" width=\"").text(width).raw("\" height=\"").text(height).raw("\"><title>");
    title(html);
    html.raw("</title></rect>\n");
}

/// A bar for a table cell: the part of the largest value.
pub(super) fn bar(html: &mut Markup, part: Decimal, whole: Decimal) {
    let share = if whole.is_zero() { Decimal::ZERO } else { part / whole };
    html.raw("<svg class=\"bar\" aria-hidden=\"true\" viewBox=\"0 0 100 10\" ")
        .raw("preserveAspectRatio=\"none\"><rect x=\"0\" y=\"0\" height=\"10\" width=\"")
        .text(place(share * Decimal::ONE_HUNDRED))
        .raw("\"/></svg>");
}

/// The distance of two grid lines: 1, 2 or 5 times a power of ten, so that there are
/// at most three lines on each side.
fn tick(largest: Decimal) -> Decimal {
    let third = (largest / Decimal::from(3)).max(Decimal::new(1, 4));
    let mut power = Decimal::new(1, 4);
    while power * Decimal::TEN <= third {
        power *= Decimal::TEN;
    }
    let factors = [1, 2, 5, 10].map(Decimal::from);
    factors.into_iter().map(|factor| power * factor).find(|tick| *tick >= third).unwrap_or(power)
}

/// The end of the scale: the first tick at or above the largest value.
fn scale_end(largest: Decimal, tick: Decimal) -> Decimal {
    (largest / tick).ceil().max(Decimal::ONE) * tick
}

/// A coordinate: one decimal place is a tenth of a pixel.
fn place(value: Decimal) -> Decimal {
    value.round_dp(1).normalize()
}

/// A step's name below the axis. The year of a day is in the page's heading.
fn label(name: &str, step: Step) -> &str {
    match step {
        Step::Day => name.get(5..).unwrap_or(name),
        Step::Month | Step::Year => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_at_most_three_ticks_and_holds_the_largest_value() {
        for largest in ["0", "0.0001", "0.99", "1", "7", "10", "31", "299", "1000000000000000000"] {
            let largest = Decimal::from_str_exact(largest).unwrap();
            let tick = tick(largest);
            let end = scale_end(largest, tick);
            assert!(end >= largest && end > Decimal::ZERO, "{largest}");
            assert!(end / tick <= Decimal::from(3), "{largest}: {tick} {end}");
        }
    }
}
