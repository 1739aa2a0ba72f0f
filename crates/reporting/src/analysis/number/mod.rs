//! Finds every number in a text, in digits or in words, with what it says about its
//! meaning: a unit, a currency, a date.
//!
//! The reader is strict, because an unread number would be an unchecked one. A
//! number in a form that is not known here is [`Meaning::Unreadable`], and no figure
//! matches it: decimal commas, digits of other scripts, `1e6`, `10 000`, and
//! quantities without a value, such as *half* or *dozens*.

mod literal;
mod pieces;
mod reader;
mod words;

#[cfg(test)]
mod tests;

use rust_decimal::Decimal;
use time::{Date, Month};

pub(super) use reader::read;

/// A number in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    /// As it is in the text.
    pub(super) text: String,
    pub(super) meaning: Meaning,
    /// The number of the sentence in the text.
    pub(super) sentence: usize,
}

/// The meaning of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A quantity and its unit.
    Quantity(Shown, Unit),
    /// `2026-03-29`, `29 March 2026`
    Day(Date),
    /// `29 March`
    DayOfMonth(u8, Month),
    /// `March 2026`
    Month(i32, Month),
    /// `14:30`, in seconds since midnight.
    TimeOfDay(u32),
    /// `account 3`
    Rank(u32),
    /// `p99`, `99th percentile`, `99 of 100`
    Percentile(u32),
    /// Not a number in a known form.
    Unreadable,
}

/// What a quantity measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit {
    /// The text does not tell.
    Unknown,
    /// A number of movements, accounts …
    Count,
    /// A share or a change.
    Percent,
    /// Milliseconds, after conversion.
    Duration,
    /// An amount of this currency.
    Money(String),
}

/// A quantity as it is shown: rounded to some digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) value: Decimal,
    /// A figure matches if it differs by at most this: half of the last shown digit.
    pub(super) tolerance: Decimal,
}

impl Shown {
    /// Whether the figure, rounded to the shown digits, is this quantity. The sign is
    /// not compared: a fall by 3% is a change of -3%.
    pub(super) fn matches(self, figure: Decimal) -> bool {
        (figure.abs() - self.value).abs() <= self.tolerance
    }
}
