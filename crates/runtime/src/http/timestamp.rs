//! Times in answers: RFC 3339 with six digits of fraction, the resolution of PostgreSQL. All
//! times in UTC have one length, so their order as text is their order in time.
//!
//! For fields of views: `#[serde(with = "timestamp")]`.

use std::fmt;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// A time as text, such as `2026-11-29T09:00:00.000000Z`. A time with another offset than
/// zero keeps it: `2026-11-29T18:00:00.000000+09:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(pub OffsetDateTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(time) = self;
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        let (hour, minute, second) = time.to_hms();
        let micros = time.microsecond();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}")?;
        let offset = time.offset();
        if offset.is_utc() {
            return f.write_str("Z");
        }
        let sign = if offset.is_negative() { '-' } else { '+' };
        let (hours, minutes, _) = offset.as_hms();
        write!(f, "{sign}{:02}:{:02}", hours.unsigned_abs(), minutes.unsigned_abs())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Serializes a time as [`Timestamp`].
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    Timestamp(*time).serialize(serializer)
}

/// For optional times: `#[serde(with = "timestamp::option")]`.
pub mod option {
    use serde::{Serialize, Serializer};
    use time::OffsetDateTime;

    use super::Timestamp;

    /// Serializes a time as [`Timestamp`], or `null`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        time: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Timestamp).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, UtcOffset};

    use super::*;

    #[test]
    fn a_time_has_six_digits_of_fraction() {
        let text = |time: OffsetDateTime| Timestamp(time).to_string();
        let second = OffsetDateTime::from_unix_timestamp(1_795_942_800).unwrap();
        assert_eq!(text(second), "2026-11-29T09:00:00.000000Z");
        let later = second + Duration::microseconds(20);
        assert_eq!(text(later), "2026-11-29T09:00:00.000020Z");
        assert_eq!(text(later + Duration::nanoseconds(999)), text(later));
        let seoul = UtcOffset::from_hms(9, 0, 0).unwrap();
        assert_eq!(text(later.to_offset(seoul)), "2026-11-29T18:00:00.000020+09:00");
        let newfoundland = UtcOffset::from_hms(-3, -30, 0).unwrap();
        assert_eq!(text(second.to_offset(newfoundland)), "2026-11-29T05:30:00.000000-03:30");
    }
}
