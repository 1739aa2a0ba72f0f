//! Numbers, dates and lists in English.

use contract::Kind;
use rust_decimal::{Decimal, RoundingStrategy};
use time::Date;

/// `1,234,567`
pub(super) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// `1 deposit`, `2 deposits`
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// `1,234.50 EUR`: the decimal's own digits, which are those of its currency.
pub(super) fn money(amount: Decimal, currency: &str) -> String {
    format!("{} {currency}", grouped(&amount.abs().to_string()))
}

/// `12.3%`: a part of the whole, or a change of it, with more decimals if it is small.
/// `None` if the whole is zero.
pub(super) fn share(part: Decimal, whole: Decimal) -> Option<String> {
    const MAX_DECIMALS: u32 = 8;
    let percent = part.checked_div(whole)?.checked_mul(Decimal::ONE_HUNDRED)?.abs();
    let round =
        |decimals| percent.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero);
    let decimals = (1..MAX_DECIMALS).find(|&decimals| !round(decimals).is_zero());
    let decimals = decimals.filter(|_| !percent.is_zero()).unwrap_or(1);
    let mut rounded = round(decimals);
    rounded.rescale(decimals);
    Some(format!("{}%", grouped(&rounded.to_string())))
}

/// `250 ms`, `1.5 seconds`, `3.2 minutes`
pub(super) fn duration(milliseconds: u64) -> String {
    let (size, decimals, unit) = match milliseconds {
        0..1_000 => (1, 0, "ms"),
        1_000..60_000 => (1_000, 1, "seconds"),
        _ => (60_000, 1, "minutes"),
    };
    let value = Decimal::from(milliseconds) / Decimal::from(size);
    let rounded = value.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero);
    format!("{} {unit}", grouped(&rounded.to_string()))
}

/// `29 March 2026`
pub(super) fn date(day: Date) -> String {
    format!("{} {} {}", day.day(), day.month(), day.year())
}

/// `deposit`, `withdrawal`
pub(super) const fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Deposit => "deposit",
        Kind::Withdrawal => "withdrawal",
    }
}

/// `insufficient funds`
pub(super) fn reason(code: &str) -> String {
    code.to_lowercase().replace('_', " ")
}

/// `a`, `a and b`, `a, b and c`
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Separates the thousands of a plain decimal.
fn grouped(plain: &str) -> String {
    let (whole, decimals) = plain.split_once('.').map_or((plain, None), |(a, b)| (a, Some(b)));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(decimals) = decimals {
        text.push('.');
        text.push_str(decimals);
    }
    text
}
