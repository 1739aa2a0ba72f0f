//! Money: a currency, a positive amount of it, and a balance.
//!
//! Amounts are decimals everywhere, never binary floats. On the wire an amount is a
//! plain decimal string with exactly the currency's number of decimals (`"10.50"`,
//! `"10000"`).

use std::fmt;

use rust_decimal::Decimal;

/// Every amount and every balance is below 10^18. With at most four decimals
/// they have 22 digits: `Decimal` holds 28, and the columns are NUMERIC(22, 4).
pub const MONEY_LIMIT: Decimal = Decimal::from_parts(2_808_348_672, 232_830_643, 0, false, 0);

/// Codes by their number of decimals ("minor unit"), from ISO 4217 list one.
/// Codes without a minor unit (metals, bond units, testing) are left out, because
/// no account has such a currency.
const BY_EXPONENT: [(u32, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD \
         CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP \
         GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK \
         LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO \
         NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS \
         SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST \
         XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// The code is not in the table of currencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an ISO 4217 currency code in uppercase, such as KRW, USD or EUR")]
pub struct UnknownCurrency;

/// An ISO 4217 currency and its number of decimals.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    code: &'static str,
    exponent: u32,
}

impl Currency {
    /// The currency with this code.
    ///
    /// # Errors
    /// [`UnknownCurrency`] if the code is not in the table. Codes are in uppercase.
    pub fn parse(code: &str) -> Result<Self, UnknownCurrency> {
        BY_EXPONENT
            .iter()
            .find_map(|&(exponent, codes)| {
                // Each entry has three letters and a space.
                let at = codes
                    .as_bytes()
                    .chunks(4)
                    .position(|entry| entry.get(..3) == Some(code.as_bytes()))?;
                Some(Self { code: codes.get(at * 4..at * 4 + 3)?, exponent })
            })
            .ok_or(UnknownCurrency)
    }

    /// The three letters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// The number of decimals of an amount (ISO 4217 "minor unit"): 0, 2, 3 or 4.
    #[must_use]
    pub const fn exponent(self) -> u32 {
        self.exponent
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

/// The reason why a text or decimal is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not plain decimal digits.
    #[error(
        "must be a plain decimal number such as \"10000\" or \"10.50\": digits, at most one point, \
         no exponent, no leading zeros"
    )]
    NotANumber,
    /// Zero or below.
    #[error("must be greater than zero")]
    NotPositive,
    /// More decimals than the currency has.
    #[error("{currency} amounts have at most {} decimals", currency.exponent())]
    TooManyDecimals {
        /// The currency of the account.
        currency: Currency,
    },
    /// 10^18 or more.
    #[error("must be less than 1000000000000000000")]
    TooLarge,
}

/// A positive amount of a currency: below 10^18, with exactly the currency's
/// decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Decimal);

impl Amount {
    /// Parses an amount in a request or message.
    ///
    /// # Errors
    /// The first [`AmountError`] that applies, in the order of the enum. A plus
    /// sign, an exponent, white space, a leading zero and `NaN` give
    /// [`AmountError::NotANumber`]. A minus sign before a plain number gives
    /// [`AmountError::NotPositive`].
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountError> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, decimals) = plain_parts(digits).ok_or(AmountError::NotANumber)?;
        let zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        if negative || zero {
            return Err(AmountError::NotPositive);
        }
        let significant = decimals.trim_end_matches('0');
        if significant.len() > usize::try_from(currency.exponent).unwrap_or(usize::MAX) {
            return Err(AmountError::TooManyDecimals { currency });
        }
        if whole.len() > 18 {
            return Err(AmountError::TooLarge);
        }
        let value = Decimal::from_str_exact(&format!("{whole}.{significant}0"))
            .map_err(|_| AmountError::NotANumber)?;
        Self::from_decimal(value, currency)
    }

    /// The amount of a decimal, such as a column's.
    ///
    /// # Errors
    /// As [`Amount::parse`].
    pub fn from_decimal(value: Decimal, currency: Currency) -> Result<Self, AmountError> {
        if value <= Decimal::ZERO {
            return Err(AmountError::NotPositive);
        }
        if value.normalize().scale() > currency.exponent {
            return Err(AmountError::TooManyDecimals { currency });
        }
        if value >= MONEY_LIMIT {
            return Err(AmountError::TooLarge);
        }
        Ok(Self(with_decimals(value, currency)))
    }

    /// The amount as a decimal, for a column.
    #[must_use]
    pub const fn as_decimal(self) -> Decimal {
        self.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The balance of an account: zero or more, below 10^18, with exactly the
/// currency's decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Balance(Decimal);

impl Balance {
    /// Zero, with the currency's decimals.
    #[must_use]
    pub fn zero(currency: Currency) -> Self {
        Self(with_decimals(Decimal::ZERO, currency))
    }

    /// Parses a balance in a message: a plain number, as an amount is. `None` for any other text,
    /// outside the limits, or with more decimals than the currency has.
    #[must_use]
    pub fn parse(text: &str, currency: Currency) -> Option<Self> {
        let (whole, decimals) = plain_parts(text)?;
        let value = Decimal::from_str_exact(&format!("{whole}.{decimals}")).ok()?;
        Self::from_decimal(value, currency)
    }

    /// The balance of a decimal, such as a column's; `None` outside the limits, or
    /// with more decimals than the currency has.
    #[must_use]
    pub fn from_decimal(value: Decimal, currency: Currency) -> Option<Self> {
        let fits = (Decimal::ZERO..MONEY_LIMIT).contains(&value)
            && value.normalize().scale() <= currency.exponent;
        fits.then(|| Self(with_decimals(value, currency)))
    }

    /// The balance after a deposit; `None` at 10^18 or more.
    #[must_use]
    pub fn plus(self, amount: Amount) -> Option<Self> {
        self.0.checked_add(amount.0).filter(|sum| *sum < MONEY_LIMIT).map(Self)
    }

    /// The balance after a withdrawal; `None` below zero.
    #[must_use]
    pub fn minus(self, amount: Amount) -> Option<Self> {
        self.0.checked_sub(amount.0).filter(|rest| *rest >= Decimal::ZERO).map(Self)
    }

    /// The balance as a decimal, for a column.
    #[must_use]
    pub const fn as_decimal(self) -> Decimal {
        self.0
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The digits before and after the point of a plain number without leading zeros.
fn plain_parts(text: &str) -> Option<(&str, &str)> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let padded = whole.len() > 1 && whole.starts_with('0');
    (plain(whole) && plain(decimals) && !padded).then_some((whole, decimals))
}

fn with_decimals(value: Decimal, currency: Currency) -> Decimal {
    let mut value = value;
    value.rescale(currency.exponent);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn the_limit_is_ten_to_the_eighteenth() {
        assert_eq!(MONEY_LIMIT.to_string(), "1000000000000000000");
    }

    #[test]
    fn currencies_have_the_decimals_of_iso_4217() {
        for (code, exponent) in [("KRW", 0), ("USD", 2), ("KWD", 3), ("CLF", 4)] {
            assert_eq!(currency(code).exponent(), exponent);
        }
        for unknown in ["", "krw", "KR", "KRWX", "XXX", "XAU", "ABC", "K W"] {
            assert_eq!(Currency::parse(unknown), Err(UnknownCurrency), "{unknown}");
        }
    }

    #[test]
    fn an_amount_is_written_with_the_decimals_of_its_currency() {
        for (text, code, written) in [
            ("10000", "KRW", "10000"),
            ("10000.00", "KRW", "10000"),
            ("10.5", "USD", "10.50"),
            ("0.01", "USD", "0.01"),
            ("1.500", "USD", "1.50"),
            ("1.0000000000000000000000000000000000000000", "KRW", "1"),
            ("999999999999999999", "KRW", "999999999999999999"),
            ("999999999999999999.9999", "CLF", "999999999999999999.9999"),
        ] {
            assert_eq!(Amount::parse(text, currency(code)).unwrap().to_string(), written);
        }
    }

    #[test]
    fn an_invalid_amount_is_rejected_with_its_reason() {
        let krw = currency("KRW");
        for text in [
            "", " ", "NaN", "inf", "1e400", "1E3", "+1", "1 ", " 1", "1_000", "1,000", ".5", "5.",
            "1.2.3", "0x10", "007", "--1", "١", "-", ".", "-NaN",
        ] {
            assert_eq!(Amount::parse(text, krw), Err(AmountError::NotANumber), "{text:?}");
        }
        for text in ["0", "0.00", "-0", "-1", "-0.0", "-1.5"] {
            assert_eq!(Amount::parse(text, krw), Err(AmountError::NotPositive), "{text:?}");
        }
        let decimals = AmountError::TooManyDecimals { currency: krw };
        assert_eq!(Amount::parse("1.5", krw), Err(decimals));
        assert_eq!(Amount::parse(&format!("0.{}1", "0".repeat(60)), krw), Err(decimals));
        for text in ["1000000000000000000", "123456789012345678901234567890"] {
            assert_eq!(Amount::parse(text, krw), Err(AmountError::TooLarge), "{text:?}");
        }
    }

    #[test]
    fn a_balance_stays_between_zero_and_the_limit() {
        let krw = currency("KRW");
        let most = Amount::parse("999999999999999999", krw).unwrap();
        let one = Amount::parse("1", krw).unwrap();
        let full = Balance::zero(krw).plus(most).unwrap();
        assert_eq!(full.plus(one), None);
        assert_eq!(full.minus(most), Some(Balance::zero(krw)));
        assert_eq!(Balance::zero(krw).minus(one), None);
        assert_eq!(Balance::parse("999999999999999999", krw), Some(full));
        assert_eq!(Balance::parse("0.00", krw), Some(Balance::zero(krw)));
        for text in ["", "-0", "-1", "+1", "1_0", ".5", "1.5", "01", "1000000000000000000"] {
            assert_eq!(Balance::parse(text, krw), None, "{text:?}");
        }
    }
}
