//! Charts as SVG inside the page. Coordinates are decimals with one place, computed
//! without floats. Colours come from the style, so that they fit both themes.

use rust_decimal::Decimal;

use super::markup::Markup;
use crate::{
    axis::{MAX_LABELS, label, scale_end, tick},
    number,
    series::{Series, Step},
};

const WIDTH: i64 = 960;
const LEFT: i64 = 58;
/// Half of the last name below the axis.
const RIGHT: i64 = 18;
const HALF: i64 = 104;
const TOP: i64 = 12;
const AXIS: i64 = TOP + HALF;
const HEIGHT: i64 = AXIS + HALF + 30;

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

/// A coordinate: one decimal place is a tenth of a pixel.
fn place(value: Decimal) -> Decimal {
    value.round_dp(1).normalize()
}
