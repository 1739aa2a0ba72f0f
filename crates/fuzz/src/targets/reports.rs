//! Requests for reports, and their periods.

use report_service::http::parse_report;
use reporting::Period;
use time::{Duration, OffsetDateTime};

use super::{assert_refusal, text};

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_942_800).unwrap()
}

fn assert_period(period: &Period) {
    assert!(period.from() < period.to() && period.to() <= now());
    assert!(period.from().year() >= 1970);
    let length = period.to() - period.from();
    assert!(length <= Duration::days(3_654));
    let document = period.document();
    assert_eq!(Period::from_document(&document).as_ref(), Ok(period));
    if length > Duration::days(40) {
        return;
    }
    let mut next = period.from();
    for day in period.days() {
        assert!(day.from == next && day.from < day.to && day.date.len() == 10, "{day:?}");
        next = day.to;
    }
    assert_eq!(next, period.to());
}

/// Lines: from, to, and a time zone. A period has an order, ends in the past, and is the sum of its
/// days.
pub(super) fn periods(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let mut lines = text.split('\n');
    let (from, to) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let zone = lines.next().unwrap_or("UTC");
    match Period::parse(from, to, zone, now()) {
        Ok(period) => assert_period(&period),
        Err(error) => assert!(["from", "to", "timeZone"].contains(&error.parameter())),
    }
}

/// A report has formats of its kind, each once, and a period if its kind has one.
pub(super) fn report_requests(input: &[u8]) {
    let report = match parse_report(input, now()) {
        Ok(report) => report,
        Err(problem) => return assert_refusal(&problem, input),
    };
    assert!(!report.formats.is_empty());
    assert!(report.formats.is_sorted() && report.formats.windows(2).all(|two| two[0] != two[1]));
    assert!(report.formats.iter().all(|format| report.kind.formats().contains(format)));
    if let Some(period) = &report.period {
        assert_period(period);
    }
}
