//! Numbers for readers: digits in groups of three, and short forms.

use rust_decimal::Decimal;

/// The number of decimal digits, without leading zeros, trailing zeros after the
/// point, and the point.
pub(crate) fn digits(value: Decimal) -> usize {
    value.normalize().mantissa().unsigned_abs().to_string().len()
}

/// The decimal with its digits in groups: `-1,234,567.50`.
pub(crate) fn grouped(value: Decimal) -> String {
    let text = value.to_string();
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, decimals) =
        text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(decimals) = decimals {
        grouped.push('.');
        grouped.push_str(decimals);
    }
    grouped
}

/// The count with its digits in groups.
pub(crate) fn count(value: u64) -> String {
    grouped(Decimal::from(value))
}

/// A short form for the axis of a chart: `1.5M`.
pub(crate) fn short(value: Decimal) -> String {
    const UNITS: [(u32, &str); 5] = [(15, "Q"), (12, "T"), (9, "B"), (6, "M"), (3, "k")];
    let unit = UNITS.into_iter().find(|&(power, _)| value.abs() >= power_of_ten(power));
    match unit {
        Some((power, name)) => {
            let scaled = (value / power_of_ten(power)).round_dp(1).normalize();
            format!("{scaled}{name}")
        }
        None => value.normalize().to_string(),
    }
}

/// 10 to the power of 0 to 28.
pub(crate) fn power_of_ten(power: u32) -> Decimal {
    10_i128
        .checked_pow(power)
        .and_then(|value| Decimal::try_from_i128_with_scale(value, 0).ok())
        .unwrap_or(Decimal::MAX)
}

/// A duration: `850 ms`, `12.4 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", seconds, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", count(seconds / 3_600), seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::from_str_exact(text).unwrap()
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (value, expected) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567.50", "-1,234,567.50"),
            ("123456.7890", "123,456.7890"),
            ("999999999999999999.9999", "999,999,999,999,999,999.9999"),
        ] {
            assert_eq!(grouped(decimal(value)), expected);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn significant_digits_are_counted() {
        for (value, expected) in [("0.00", 1), ("1000", 4), ("0.5000", 1), ("-12.3400", 4)] {
            assert_eq!(digits(decimal(value)), expected, "{value}");
        }
    }

    #[test]
    fn a_short_form_has_a_unit() {
        for (value, expected) in
            [("0.5", "0.5"), ("999", "999"), ("1500", "1.5k"), ("2000000", "2M"), ("-3e12", "-3T")]
        {
            let value = Decimal::from_scientific(value).unwrap_or_else(|_| decimal(value));
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn a_duration_has_at_most_two_units() {
        for (ms, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_050, "1.0 s"),
            (59_999, "59.9 s"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(duration(ms), expected);
        }
    }
}
