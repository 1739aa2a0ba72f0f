//! Amounts of money.

use contract::{Amount, Balance, Currency};

use super::{choice, text};

/// One currency for each number of decimals.
const CURRENCIES: [&str; 4] = ["KRW", "USD", "KWD", "CLF"];

/// An accepted amount is a plain, positive number with no more decimals than its currency has. It
/// is printed as the same number.
pub(super) fn amounts(input: &[u8]) {
    let Some((choice, rest)) = choice(input) else { return };
    let Some(text) = text(rest) else { return };
    let currency = Currency::parse(CURRENCIES[choice % CURRENCIES.len()]).unwrap();
    let decimals = usize::try_from(currency.exponent()).unwrap();
    let parsed = Amount::parse(text, currency);
    assert_eq!(parsed.is_ok(), is_amount(text, decimals), "{text:?} {currency} {parsed:?}");
    let Ok(amount) = parsed else { return };
    let printed = amount.to_string();
    assert_eq!(significant(&printed), significant(text));
    assert_eq!(printed.split_once('.').map_or(0, |(_, decimals)| decimals.len()), decimals);
    assert_eq!(Amount::parse(&printed, currency), Ok(amount));
    assert_eq!(Amount::from_decimal(amount.as_decimal(), currency), Ok(amount));
    let balance = Balance::zero(currency).plus(amount).unwrap();
    assert_eq!(balance.to_string(), printed);
    assert_eq!(Balance::parse(&printed, currency), Some(balance));
    assert_eq!(balance.minus(amount), Some(Balance::zero(currency)));
}

fn is_amount(text: &str, decimals: usize) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let is_plain = is_number(whole) && is_number(fraction);
    is_plain
        && (whole == "0" || !whole.starts_with('0'))
        && whole.len() <= 18
        && fraction.trim_end_matches('0').len() <= decimals
        && text.contains(|c| matches!(c, '1'..='9'))
}

/// The number without zeros at the end of its fraction.
fn significant(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}
