//! Sums of money as integers, in ten-thousandths: the ledger's columns have four
//! decimals. They are added faster than decimals, and never rounded.

use contract::Currency;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

const SCALE: u32 = 4;

/// An amount or a sum of amounts, in ten-thousandths of its currency.
///
/// An amount is below 10^22 of them: a sum of more than 10^16 amounts fits. In JSON it
/// is a string, because many readers take numbers as floats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Units(u128);

impl Units {
    /// `None` for a negative amount, or one with more decimals than the columns have.
    pub(super) fn of(amount: Decimal) -> Option<Self> {
        let mantissa = u128::try_from(amount.mantissa()).ok()?;
        if let Some(missing) = SCALE.checked_sub(amount.scale()) {
            return Some(Self(mantissa * 10_u128.pow(missing)));
        }
        let divisor = 10_u128.checked_pow(amount.scale() - SCALE)?;
        mantissa.is_multiple_of(divisor).then(|| Self(mantissa / divisor))
    }

    /// The sum, with the decimals of the currency. Digits that are not zero are kept.
    pub(super) fn amount(self, code: &str) -> Decimal {
        let value = i128::try_from(self.0).unwrap_or(i128::MAX);
        let exact = Decimal::try_from_i128_with_scale(value, SCALE).unwrap_or(Decimal::MAX);
        let decimals = Currency::parse(code).map_or(0, Currency::exponent);
        let mut amount = exact.normalize();
        if amount.scale() < decimals {
            amount.rescale(decimals);
        }
        amount
    }

    /// Whole units of the currency, rounded up.
    pub(super) fn rounded_up(self) -> u64 {
        u64::try_from(self.0.div_ceil(10_u128.pow(SCALE))).unwrap_or(u64::MAX)
    }

    /// For a compact form.
    pub(super) const fn get(self) -> u128 {
        self.0
    }

    /// The value of [`Units::get`].
    pub(super) const fn from_raw(raw: u128) -> Self {
        Self(raw)
    }
}

impl std::ops::Add for Units {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Units {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> Option<Units> {
        Units::of(text.parse().unwrap())
    }

    #[test]
    fn an_amount_keeps_its_value_and_gets_the_decimals_of_its_currency() {
        for (text, code, written) in [
            ("12.5000", "EUR", "12.50"),
            ("12.5", "KWD", "12.500"),
            ("7", "KRW", "7"),
            ("7.0000", "KRW", "7"),
            ("7.25", "KRW", "7.25"),
            ("999999999999999999.9999", "CLF", "999999999999999999.9999"),
        ] {
            assert_eq!(units(text).unwrap().amount(code).to_string(), written);
        }
    }

    #[test]
    fn a_value_outside_the_columns_is_not_an_amount() {
        assert_eq!(units("-1"), None);
        assert_eq!(units("0.00001"), None);
        assert!(units("0.10000").is_some());
    }

    #[test]
    fn units_are_a_string_in_json() {
        let sum = units("999999999999999999.9999").unwrap() + units("1").unwrap();
        let json = serde_json::to_value(sum).unwrap();
        assert_eq!(json, "10000000000000000009999");
        assert_eq!(serde_json::from_value::<Units>(json).unwrap(), sum);
    }
}
