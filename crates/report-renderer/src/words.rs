//! Periods, times and names in words, the same in every format for readers.

use contract::Kind;
use report_document::Period;
use rust_decimal::Decimal;
use time::{Date, OffsetDateTime, Time, UtcOffset};

/// The period in words: dates if it is made of whole days, else times.
pub(crate) fn period(period: &Period) -> String {
    let zone = &period.time_zone;
    if period.from.time() == Time::MIDNIGHT && period.to.time() == Time::MIDNIGHT {
        let last = period.to.date().previous_day().unwrap_or(period.to.date());
        let first = date(period.from.date());
        if last <= period.from.date() {
            return format!("{first} ({zone})");
        }
        return format!("{first} – {} ({zone})", date(last));
    }
    format!("{} – {} ({zone})", moment(period.from), moment(period.to))
}

/// A date: `1 March 2026`.
pub(crate) fn date(date: Date) -> String {
    format!("{} {} {}", date.day(), date.month(), date.year())
}

/// A time in its own zone, to the second: `2026-03-29 03:00:00 +02:00`.
pub(crate) fn moment(at: OffsetDateTime) -> String {
    let (hour, minute, second) = at.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} {}", at.date(), offset(at.offset()))
}

/// `+02:00`.
pub(crate) fn offset(offset: UtcOffset) -> String {
    let (hours, minutes, _) = offset.as_hms();
    let sign = if offset.is_negative() { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", hours.unsigned_abs(), minutes.unsigned_abs())
}

/// The name of a type of movement.
pub(crate) const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Deposit => "Deposit",
        Kind::Withdrawal => "Withdrawal",
    }
}

/// `INSUFFICIENT_FUNDS` as `Insufficient funds`.
pub(crate) fn reason(name: &str) -> String {
    let text = name.replace('_', " ").to_lowercase();
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

/// The part of the whole in percent, with one decimal.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0.0%".to_owned();
    }
    let share = Decimal::from(part) / Decimal::from(whole) * Decimal::ONE_HUNDRED;
    format!("{:.1}%", share.round_dp(1))
}
