//! Periods in named time zones.
//!
//! A bound is a date or a time. A date is the first instant of that day in the zone:
//! mostly midnight, but a clock change can skip midnight, or the whole day. Then the day
//! begins with the first instant after the change. If a clock change repeats midnight,
//! the day begins with the first of the two.
//!
//! The tz database is part of the program, so the same release gives the same bounds on
//! every machine.

mod bound;
#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use time::{Duration, OffsetDateTime};

use bound::{civil_date, find_zone, local, parse_bound, start_of_day};

/// The longest period: ten years with three leap days, and a change of the zone's offset.
const LONGEST: Duration = Duration::days(3_654);
/// The first year that a period may begin in.
const FIRST_YEAR: i32 = 1970;

/// Why a period is refused, in the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// The tz database has no zone of this name.
    #[error("must be the IANA name of a time zone, such as Europe/Berlin or Asia/Seoul")]
    UnknownTimeZone,
    /// `from` is neither a date nor a time.
    #[error(
        "must be a date such as 2026-03-01, or an RFC 3339 time with at most six decimals, such \
         as 2026-03-01T09:30:00Z"
    )]
    UnreadableFrom,
    /// `to` is neither a date nor a time.
    #[error(
        "must be a date such as 2026-04-01, or an RFC 3339 time with at most six decimals, such \
         as 2026-04-01T09:30:00Z"
    )]
    UnreadableTo,
    /// `to` is `from`, or before it.
    #[error("must be after from: the period contains from, and ends before to")]
    Empty,
    /// `from` is before 1970.
    #[error("must not be before the year 1970")]
    TooEarly,
    /// More than ten years.
    #[error("must be at most ten years after from")]
    TooLong,
    /// The end is in the future.
    #[error("must not be in the future: a period can be reported when it has ended")]
    Future,
    /// `from` is before the day on which the account was opened.
    #[error("must not be before {first}, the day on which the account was opened")]
    BeforeAccount {
        /// The day in the period's time zone: `2026-03-29`.
        first: String,
    },
}

impl PeriodError {
    /// The name of the invalid parameter.
    #[must_use]
    pub const fn parameter(&self) -> &'static str {
        match self {
            Self::UnknownTimeZone => "timeZone",
            Self::UnreadableFrom | Self::TooEarly | Self::BeforeAccount { .. } => "from",
            Self::UnreadableTo | Self::Empty | Self::TooLong | Self::Future => "to",
        }
    }
}

/// A half-open period `[from, to)` in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    from: OffsetDateTime,
    to: OffsetDateTime,
    zone: TimeZone,
    name: String,
}

/// The part of one day that lies in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// The day in the period's time zone: `2026-03-29`.
    pub date: String,
    /// The first instant.
    pub from: OffsetDateTime,
    /// The first instant after it.
    pub to: OffsetDateTime,
}

impl Period {
    /// Parses a request's period: the bounds are dates, or RFC 3339 times.
    ///
    /// # Errors
    /// The first [`PeriodError`] that applies, in the order of the enum.
    pub fn parse(
        from: &str,
        to: &str,
        time_zone: &str,
        now: OffsetDateTime,
    ) -> Result<Self, PeriodError> {
        let (zone, name) = find_zone(time_zone)?;
        let from = parse_bound(from, &zone).ok_or(PeriodError::UnreadableFrom)?;
        let to = parse_bound(to, &zone).ok_or(PeriodError::UnreadableTo)?;
        let period = Self { from, to, zone, name };
        period.check()?;
        if period.to > now { Err(PeriodError::Future) } else { Ok(period) }
    }

    /// The period of a document, or of stored parameters.
    ///
    /// # Errors
    /// As [`Period::parse`].
    pub fn from_document(period: &report_document::Period) -> Result<Self, PeriodError> {
        let (zone, name) = find_zone(&period.time_zone)?;
        let from = local(period.from, &zone).ok_or(PeriodError::UnreadableFrom)?;
        let to = local(period.to, &zone).ok_or(PeriodError::UnreadableTo)?;
        let period = Self { from, to, zone, name };
        period.check()?;
        Ok(period)
    }

    fn check(&self) -> Result<(), PeriodError> {
        if self.to <= self.from {
            return Err(PeriodError::Empty);
        }
        if self.from.year() < FIRST_YEAR {
            return Err(PeriodError::TooEarly);
        }
        if self.to - self.from > LONGEST {
            return Err(PeriodError::TooLong);
        }
        Ok(())
    }

    /// Checks that a statement's period does not begin before the day on which the
    /// account was opened.
    ///
    /// # Errors
    /// [`PeriodError::BeforeAccount`]
    pub fn check_opened(&self, opened_at: OffsetDateTime) -> Result<(), PeriodError> {
        let opened = self.local(opened_at).date();
        if self.from.date() < opened {
            return Err(PeriodError::BeforeAccount { first: opened.to_string() });
        }
        Ok(())
    }

    /// The first instant, with the zone's offset.
    #[must_use]
    pub const fn from(&self) -> OffsetDateTime {
        self.from
    }

    /// The first instant after the period, with the zone's offset.
    #[must_use]
    pub const fn to(&self) -> OffsetDateTime {
        self.to
    }

    /// The IANA name of the time zone.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        &self.name
    }

    /// Whether the instant is in the period.
    #[must_use]
    pub fn contains(&self, at: OffsetDateTime) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// The same instant with the zone's offset at that time.
    #[must_use]
    pub fn local(&self, at: OffsetDateTime) -> OffsetDateTime {
        local(at, &self.zone).unwrap_or(at)
    }

    /// The days of the period, in order. The first and the last can be parts of days.
    /// A day that a clock change skips is left out.
    pub fn days(&self) -> impl Iterator<Item = Day> + '_ {
        let mut from = Some(self.from);
        std::iter::from_fn(move || {
            let day_from = from.filter(|from| *from < self.to)?;
            let mut date = civil_date(day_from)?;
            let mut day_to = start_of_day(date.tomorrow().ok()?, &self.zone)?;
            // A clock change can repeat a part of the day before.
            while day_to <= day_from {
                date = date.tomorrow().ok()?;
                day_to = start_of_day(date.tomorrow().ok()?, &self.zone)?;
            }
            let day_to = day_to.min(self.to);
            from = Some(day_to);
            Some(Day { date: date.to_string(), from: day_from, to: day_to })
        })
    }

    /// The period in its form for documents.
    #[must_use]
    pub fn document(&self) -> report_document::Period {
        report_document::Period { from: self.from, to: self.to, time_zone: self.name.clone() }
    }
}
