//! The formats of a statement. Each is written row by row, so that five million
//! entries take the memory of one.

pub(crate) mod camt053;
pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod xlsx;
mod xml;

use std::borrow::Cow;

use report_document::Period;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::RenderError;

/// The time with its offset: `2026-03-29T03:00:00.25+02:00`.
fn rfc3339(at: OffsetDateTime) -> Result<String, RenderError> {
    at.format(&Rfc3339).map_err(|error| RenderError::Other(format!("{at}: {error}")))
}

/// The text in one line: a line break or a tab becomes a space.
fn one_line(text: &str) -> Cow<'_, str> {
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if text.contains(is_break) {
        Cow::Owned(text.replace(is_break, " "))
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether the period ends with a day, so that its last day is the one before `to`.
fn ends_with_a_day(period: &Period) -> bool {
    period.to.time() == time::Time::MIDNIGHT
}
