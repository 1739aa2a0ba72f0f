//! Periods in named time zones.
//!
//! A bound is a date or a time. A date is the first instant of that day in the zone:
//! mostly midnight, but a clock change can skip midnight, or the whole day. Then the day
//! begins with the first instant after the change. If a clock change repeats midnight,
//! the day begins with the first of the two.
//!
//! The tz database is part of the program, so the same release gives the same bounds on
//! every machine.

use jiff::{
    Timestamp,
    civil::Date,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use time::{Duration, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

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
        let from = bound(from, &zone).ok_or(PeriodError::UnreadableFrom)?;
        let to = bound(to, &zone).ok_or(PeriodError::UnreadableTo)?;
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
            let mut date = jiff_date(day_from)?;
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

/// The zone and its name in the spelling of the tz database.
fn find_zone(name: &str) -> Result<(TimeZone, String), PeriodError> {
    let zone = TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown());
    let zone = zone.ok_or(PeriodError::UnknownTimeZone)?;
    let name = zone.iana_name().ok_or(PeriodError::UnknownTimeZone)?.to_owned();
    Ok((zone, name))
}

fn bound(text: &str, zone: &TimeZone) -> Option<OffsetDateTime> {
    if text.len() == 10 {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        return start_of_day(text.parse().ok().filter(|_| plain)?, zone);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    // PostgreSQL has microseconds.
    local(at, zone).filter(|at| at.nanosecond() % 1_000 == 0)
}

/// The first instant of the day. For a day that does not exist, the first instant after it.
fn start_of_day(date: Date, zone: &TimeZone) -> Option<OffsetDateTime> {
    let midnight = date.at(0, 0, 0, 0);
    let start = match zone.to_ambiguous_timestamp(midnight).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(midnight).ok()?
        }
        // Midnight is skipped. With the offset after the change, it lies before the change.
        AmbiguousOffset::Gap { after, .. } => {
            zone.following(after.to_timestamp(midnight).ok()?).next()?.timestamp()
        }
    };
    local(OffsetDateTime::from_unix_timestamp(start.as_second()).ok()?, zone)
}

/// `None` outside the years -9999 to 9999.
fn local(at: OffsetDateTime, zone: &TimeZone) -> Option<OffsetDateTime> {
    let seconds = zone.to_offset(Timestamp::from_second(at.unix_timestamp()).ok()?).seconds();
    // RFC 3339 has no seconds in an offset. Liberia had until 1972.
    let offset = UtcOffset::from_whole_seconds(seconds - seconds % 60).ok()?;
    at.checked_to_offset(offset)
}

fn jiff_date(at: OffsetDateTime) -> Option<Date> {
    let (year, month, day) = at.to_calendar_date();
    Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(u8::from(month)).ok()?,
        i8::try_from(day).ok()?,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-28 12:00 UTC);

    fn parse(from: &str, to: &str, zone: &str) -> Result<Period, PeriodError> {
        Period::parse(from, to, zone, NOW)
    }

    fn hours(from: &str, to: &str, zone: &str) -> i64 {
        let period = parse(from, to, zone).unwrap();
        (period.to() - period.from()).whole_hours()
    }

    #[test]
    fn a_date_is_the_start_of_that_day_in_the_zone() {
        let period = parse("2026-03-01", "2026-04-01", "Asia/Seoul").unwrap();
        assert_eq!(period.from(), datetime!(2026-02-28 15:00 UTC));
        assert_eq!(period.to(), datetime!(2026-03-31 15:00 UTC));
        assert_eq!(period.from().offset(), UtcOffset::from_hms(9, 0, 0).unwrap());
    }

    #[test]
    fn a_day_with_a_clock_change_is_shorter_or_longer() {
        assert_eq!(hours("2026-03-29", "2026-03-30", "Europe/Berlin"), 23);
        assert_eq!(hours("2026-10-25", "2026-10-26", "Europe/Berlin"), 25);
        assert_eq!(hours("2026-03-29", "2026-03-30", "Asia/Seoul"), 24);
        assert_eq!(hours("2026-01-01", "2026-02-01", "Asia/Seoul"), 31 * 24);
        // Half an hour.
        assert_eq!(hours("2026-04-05", "2026-04-06", "Australia/Lord_Howe"), 24);
        let period = parse("2026-04-05", "2026-04-06", "Australia/Lord_Howe").unwrap();
        assert_eq!((period.to() - period.from()).whole_minutes(), 24 * 60 + 30);
    }

    #[test]
    fn a_day_without_midnight_begins_with_its_first_instant() {
        for (date, zone, first) in [
            ("2018-11-04", "America/Sao_Paulo", datetime!(2018-11-04 01:00 -2)),
            ("2026-03-08", "America/Havana", datetime!(2026-03-08 01:00 -4)),
            ("2026-03-29", "Asia/Beirut", datetime!(2026-03-29 01:00 +3)),
        ] {
            let period = Period::parse(date, "2026-04-10", zone, NOW).unwrap();
            assert_eq!(period.from(), first, "{zone}");
            let before = first - Duration::microseconds(1);
            assert_eq!(period.local(before).date(), first.date().previous_day().unwrap());
        }
    }

    #[test]
    fn a_repeated_midnight_begins_the_day_once() {
        // Havana's clocks go back from 01:00 to 00:00.
        let period = parse("2025-11-02", "2025-11-03", "America/Havana").unwrap();
        assert_eq!(period.from(), datetime!(2025-11-02 00:00 -4));
        assert_eq!((period.to() - period.from()).whole_hours(), 25);
        // St. John's went back from 00:01 to 23:01 of the day before.
        let day = parse("2010-11-07", "2010-11-08", "America/St_Johns").unwrap();
        assert_eq!(day.from(), datetime!(2010-11-07 00:00 -2:30));
        assert_eq!((day.to() - day.from()).whole_hours(), 25);
    }

    #[test]
    fn a_skipped_day_is_empty() {
        let skipped = parse("2011-12-30", "2011-12-31", "Pacific/Apia");
        assert_eq!(skipped, Err(PeriodError::Empty));
        assert_eq!(hours("2011-12-29", "2012-01-01", "Pacific/Apia"), 48);
        let period = parse("2011-12-29", "2012-01-01", "Pacific/Apia").unwrap();
        let days: Vec<_> = period.days().map(|day| day.date).collect();
        assert_eq!(days, ["2011-12-29", "2011-12-31"]);
    }

    #[test]
    fn the_days_of_a_period_follow_each_other_without_a_gap() {
        for (from, to, zone, count) in [
            ("2026-03-01", "2026-04-01", "Europe/Berlin", 31),
            ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", "Europe/Berlin", 3),
            ("2018-11-01", "2018-12-01", "America/Sao_Paulo", 30),
            ("2010-11-01", "2010-12-01", "America/St_Johns", 30),
            ("2010-11-07T03:00:00Z", "2010-12-01", "America/St_Johns", 24),
            ("2024-02-01", "2024-03-01", "Asia/Seoul", 29),
            ("2026-03-28T12:00:00Z", "2026-03-28T12:00:01Z", "UTC", 1),
        ] {
            let period = parse(from, to, zone).unwrap();
            let days: Vec<_> = period.days().collect();
            assert_eq!(days.len(), count, "{from} {zone}");
            assert_eq!(days[0].from, period.from());
            assert_eq!(days[count - 1].to, period.to());
            for pair in days.windows(2) {
                assert_eq!(pair[0].to, pair[1].from);
                assert!(pair[0].date < pair[1].date);
            }
        }
    }

    #[test]
    fn a_time_is_taken_as_it_is() {
        let period =
            parse("2026-03-01T09:30:00.000001+01:00", "2026-03-01T08:31:00Z", "Asia/Seoul")
                .unwrap();
        assert_eq!(period.from(), datetime!(2026-03-01 08:30:00.000001 UTC));
        assert_eq!(period.from().offset().whole_hours(), 9);
        assert!(period.contains(period.from()) && !period.contains(period.to()));
        assert_eq!(Period::from_document(&period.document()), Ok(period));
    }

    #[test]
    fn a_zone_has_the_spelling_of_the_tz_database() {
        let period = parse("2026-03-01", "2026-03-02", "europe/berlin").unwrap();
        assert_eq!(period.time_zone(), "Europe/Berlin");
        for unknown in ["", "Europe", "Berlin", "+01:00", "CEST", "Etc/Unknown", "Mars/Base", "Z"] {
            let error = parse("2026-03-01", "2026-03-02", unknown);
            assert_eq!(error, Err(PeriodError::UnknownTimeZone), "{unknown}");
        }
    }

    #[test]
    fn an_invalid_period_is_refused_with_its_reason() {
        let (from, to) = ("2026-03-01", "2026-04-01");
        for text in [
            "",
            "2026",
            "2026-3-1",
            "2026-02-30",
            "20260301",
            "2026-03-01T09:30:00",
            "01.03.2026",
            "2026-03-01 09:30:00",
            "2026-03-01T09:30:00.0000001Z",
            "yesterday",
            "-000001-01",
            "2026-060-1",
            "2026-W10-7",
        ] {
            assert_eq!(parse(text, to, "UTC"), Err(PeriodError::UnreadableFrom), "{text}");
            assert_eq!(parse(from, text, "UTC"), Err(PeriodError::UnreadableTo), "{text}");
        }
        for (from, to, error) in [
            (to, from, PeriodError::Empty),
            (from, from, PeriodError::Empty),
            ("1969-12-31", "1971-01-01", PeriodError::TooEarly),
            ("0001-01-01", "0501-01-01", PeriodError::TooEarly),
            ("1970-01-01", "2470-01-01", PeriodError::TooLong),
            ("2016-01-01", "2026-01-03", PeriodError::TooLong),
            ("2026-03-01", "9999-12-30", PeriodError::TooLong),
            ("2026-11-28", "2026-11-29", PeriodError::Future),
            ("2026-11-28", "2026-11-28T12:00:00.000001Z", PeriodError::Future),
        ] {
            assert_eq!(parse(from, to, "UTC"), Err(error), "{from} {to}");
        }
        assert!(parse("2016-01-01", "2026-01-01", "Europe/Berlin").is_ok());
        assert!(parse("2026-11-28", "2026-11-28T12:00:00Z", "UTC").is_ok());
        assert!(parse("1970-01-01", "1970-02-01", "Asia/Seoul").is_ok());
        assert!(parse("1970-01-01", "1970-02-01", "Africa/Monrovia").is_ok());
        assert!(parse("0000-01-01", "9999-12-31", "Pacific/Apia").is_err());
    }

    #[test]
    fn a_statement_begins_on_the_day_of_the_opening_at_the_earliest() {
        let opened = datetime!(2026-03-14 23:30 UTC);
        for (from, zone, first) in [
            ("2026-03-14", "UTC", None),
            ("2026-03-14", "Asia/Seoul", Some("2026-03-15")),
            ("2026-03-15", "Asia/Seoul", None),
            ("2026-03-01", "UTC", Some("2026-03-14")),
        ] {
            let checked = parse(from, "2026-04-01", zone).unwrap().check_opened(opened);
            let error = first.map(|day| PeriodError::BeforeAccount { first: day.to_owned() });
            assert_eq!(checked.err(), error, "{from} {zone}");
        }
    }
}
