//! Queries of URLs: filters, cursors and times.

use account_service::http::{parse_audit_query, parse_instant, parse_records_query};
use axum::http::Uri;
use contract::AccountId;
use runtime::http::timestamp::Timestamp;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{assert_line, assert_refusal, is_visible, text};

/// The database stores times in UTC.
fn assert_storable(time: OffsetDateTime) {
    let utc = time.checked_to_offset(UtcOffset::UTC);
    assert!(utc.is_some_and(|utc| (1..=9999).contains(&utc.year())), "{time}");
}

fn uri(input: &[u8]) -> Option<Uri> {
    Uri::try_from(&[&b"/?"[..], input].concat()[..]).ok()
}

/// A time is printed with six digits, and parsed as the same one.
pub(super) fn times(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let time = match parse_instant(text) {
        Ok(time) => time,
        Err(problem) => return assert_refusal(&problem, input),
    };
    assert_storable(time);
    let printed = Timestamp(time).to_string();
    let (_, fraction) = printed.split_once('.').unwrap();
    assert!(fraction.bytes().take(6).all(|byte| byte.is_ascii_digit()), "{printed}");
    assert_eq!(printed.len(), if time.offset().is_utc() { 27 } else { 32 }, "{printed}");
    assert_eq!(parse_instant(&printed).unwrap(), time);
    assert_eq!(OffsetDateTime::parse(&printed, &Rfc3339).unwrap(), time);
}

/// Filters have bounded values of known types. A cursor is the list's own.
pub(super) fn records_queries(input: &[u8]) {
    let Some(uri) = uri(input) else { return };
    let account = AccountId::from_uuid(Uuid::nil());
    let (page, filter, key) = match parse_records_query(&uri, account) {
        Ok(parsed) => parsed,
        Err(problem) => return assert_refusal(&problem, input),
    };
    assert!((1..=100).contains(&page.limit));
    assert!(key.is_none_or(|key| is_visible(key.as_str())));
    assert!(filter.requested_by.is_none_or(|user| is_visible(user.as_str())));
    if let Some(reference) = filter.reference {
        assert_line(reference.as_str(), 255);
    }
    for time in [filter.from, filter.to].into_iter().flatten() {
        assert_storable(time);
    }
    assert!(filter.from.zip(filter.to).is_none_or(|(from, to)| from < to));
    if page.before.is_some() {
        return;
    }
    // The same query continues with the page's cursor; that of another account does not.
    let Some(query) = text(input).filter(|query| !query.contains('#')) else { return };
    let next = format!("{query}&cursor={}", page.cursor(Uuid::max()));
    let uri = self::uri(next.as_bytes()).unwrap();
    let (page, ..) = parse_records_query(&uri, account).unwrap();
    assert_eq!(page.before, Some(Uuid::max()));
    assert!(parse_records_query(&uri, AccountId::from_uuid(Uuid::max())).is_err());
}

/// As [`records_queries`].
pub(super) fn audit_queries(input: &[u8]) {
    let Some(uri) = uri(input) else { return };
    match parse_audit_query(&uri) {
        Ok(filter) => {
            assert!(filter.actor.is_none_or(|actor| is_visible(actor.as_str())));
            assert!(filter.resource.is_none_or(|resource| is_visible(&resource)));
        }
        Err(problem) => assert_refusal(&problem, input),
    }
}
