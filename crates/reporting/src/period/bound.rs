//! Instants of dates and times in a time zone.

use jiff::{
    Timestamp,
    civil::Date,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::PeriodError;

/// The zone and its name in the spelling of the tz database.
pub(super) fn find_zone(name: &str) -> Result<(TimeZone, String), PeriodError> {
    let zone = TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown());
    let zone = zone.ok_or(PeriodError::UnknownTimeZone)?;
    let name = zone.iana_name().ok_or(PeriodError::UnknownTimeZone)?.to_owned();
    Ok((zone, name))
}

/// Parses a date or a time. `None` if the text is neither.
pub(super) fn parse_bound(text: &str, zone: &TimeZone) -> Option<OffsetDateTime> {
    if text.len() == 10 {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        return start_of_day(text.parse().ok().filter(|_| plain)?, zone);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    // PostgreSQL has microseconds.
    local(at, zone).filter(|at| at.nanosecond() % 1_000 == 0)
}

/// The first instant of the day. For a day that does not exist, the first instant after it.
pub(super) fn start_of_day(date: Date, zone: &TimeZone) -> Option<OffsetDateTime> {
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

/// The instant with the zone's offset. `None` outside the years -9999 to 9999.
pub(super) fn local(at: OffsetDateTime, zone: &TimeZone) -> Option<OffsetDateTime> {
    let seconds = zone.to_offset(Timestamp::from_second(at.unix_timestamp()).ok()?).seconds();
    // RFC 3339 has no seconds in an offset. Liberia had until 1972.
    let offset = UtcOffset::from_whole_seconds(seconds - seconds % 60).ok()?;
    at.checked_to_offset(offset)
}

pub(super) fn civil_date(at: OffsetDateTime) -> Option<Date> {
    let (year, month, day) = at.to_calendar_date();
    Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(u8::from(month)).ok()?,
        i8::try_from(day).ok()?,
    )
    .ok()
}
