//! The value of a number literal, and the digit it is rounded to.

use rust_decimal::Decimal;

use super::Shown;

/// A literal in digits: `1,234.50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) value: Decimal,
    /// The number of decimals.
    pub(super) decimals: u32,
}

/// Reads digits with thousands separators (`,`, all or none) and decimals (`.`).
pub(super) fn parse(text: &str) -> Option<Literal> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let grouped = whole.contains(',');
    let first_fits = !first.is_empty() && digits(first) && (!grouped || first.len() <= 3);
    if !first_fits || !groups.all(|group| group.len() == 3 && digits(group)) || !digits(decimals) {
        return None;
    }
    let plain: String = text.chars().filter(|&c| c != ',').collect();
    let value = Decimal::from_str_exact(&plain).ok()?;
    Some(Literal { value, decimals: u32::try_from(decimals.len()).ok()? })
}

impl Literal {
    /// A literal without decimals.
    pub(super) const fn whole(value: Decimal) -> Self {
        Self { value, decimals: 0 }
    }

    /// The whole number, if it is small and has no decimals.
    pub(super) fn small(self) -> Option<u32> {
        (self.decimals == 0).then(|| u32::try_from(self.value).ok()).flatten()
    }

    /// A percentage: rounded to its last decimal.
    pub(super) fn percent(self) -> Option<Shown> {
        let unit = power_of_ten(-i64::from(self.decimals))?;
        Some(Shown { value: self.value, tolerance: unit / Decimal::TWO })
    }

    /// A quantity of units of this size. Trailing zeros of a whole number may be
    /// rounded digits, but at least two digits count: 12,000 is 11,500 to 12,500, and
    /// 2 million is 1.95 to 2.05 million.
    pub(super) fn quantity(self, size: Decimal) -> Option<Shown> {
        let value = self.value.checked_mul(size)?;
        if value.is_zero() {
            return Some(Shown { value, tolerance: Decimal::ZERO });
        }
        let shown = power_of_ten(-i64::from(self.decimals))?.checked_mul(size)?;
        let unit = if self.decimals == 0 { shown.max(trailing_zeros(value)?) } else { shown };
        let two_digits = power_of_ten(exponent(self.value) - 1)?.checked_mul(size)?;
        Some(Shown { value, tolerance: unit.min(two_digits) / Decimal::TWO })
    }
}

/// The largest power of ten that divides a whole number.
fn trailing_zeros(value: Decimal) -> Option<Decimal> {
    let mut unit = Decimal::ONE;
    while let Some(next) = unit.checked_mul(Decimal::TEN).filter(|next| (value % next).is_zero()) {
        unit = next;
    }
    Some(unit)
}

/// The exponent of the first digit: 3 for 1,234, and -2 for 0.05.
fn exponent(value: Decimal) -> i64 {
    let digits = value.mantissa().unsigned_abs().checked_ilog10().unwrap_or(0);
    i64::from(digits) - i64::from(value.scale())
}

fn power_of_ten(exponent: i64) -> Option<Decimal> {
    let size = u32::try_from(exponent.unsigned_abs()).ok()?;
    if exponent < 0 {
        Decimal::try_from_i128_with_scale(1, size).ok()
    } else {
        Decimal::try_from_i128_with_scale(10_i128.checked_pow(size)?, 0).ok()
    }
}
