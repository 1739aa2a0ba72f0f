//! Ages of rows and messages.

use std::time::Duration;

use humantime::FormattedDuration;
use time::OffsetDateTime;

/// The time since a moment; zero for a moment in the future.
pub(crate) fn since(moment: OffsetDateTime) -> Duration {
    (OffsetDateTime::now_utc() - moment).try_into().unwrap_or_default()
}

/// A database's number of seconds; zero for a negative number.
pub(crate) fn from_seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Whole seconds as text, such as `3m 12s`.
pub(crate) fn format(age: Duration) -> FormattedDuration {
    humantime::format_duration(Duration::from_secs(age.as_secs()))
}
