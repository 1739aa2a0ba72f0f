use time::{UtcOffset, format_description::well_known::Rfc3339, macros::datetime};

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
        parse("2026-03-01T09:30:00.000001+01:00", "2026-03-01T08:31:00Z", "Asia/Seoul").unwrap();
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
    // Its offset had seconds, which RFC 3339 has not.
    let monrovia = parse("1970-01-01", "1970-02-01", "Africa/Monrovia").unwrap();
    assert!(monrovia.from().format(&Rfc3339).is_ok());
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
