//! The scale of a chart: its ticks, its end, and the names below it.

use rust_decimal::Decimal;

use crate::series::Step;

/// The most names below the axis.
pub(crate) const MAX_LABELS: usize = 11;

/// The distance of two grid lines: 1, 2 or 5 times a power of ten, so that there are
/// at most three lines on each side.
pub(crate) fn tick(largest: Decimal) -> Decimal {
    let third = (largest / Decimal::from(3)).max(Decimal::new(1, 4));
    let mut power = Decimal::new(1, 4);
    while power * Decimal::TEN <= third {
        power *= Decimal::TEN;
    }
    let factors = [1, 2, 5, 10].map(Decimal::from);
    factors.into_iter().map(|factor| power * factor).find(|tick| *tick >= third).unwrap_or(power)
}

/// The end of the scale: the first tick at or above the largest value.
pub(crate) fn scale_end(largest: Decimal, tick: Decimal) -> Decimal {
    (largest / tick).ceil().max(Decimal::ONE) * tick
}

/// A step's name below the axis. The year of a day is in the page's heading.
pub(crate) fn label(name: &str, step: Step) -> &str {
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
