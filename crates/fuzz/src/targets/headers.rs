//! Headers of requests, and those of the receivers of webhooks.

use std::time::Duration;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{HOST, IF_NONE_MATCH, RETRY_AFTER},
};
use report_service::http::{Requested, parse_range};
use runtime::{
    http::{
        entity_tag::EntityTag,
        idempotency_key::{self, IdempotencyKey},
        prefer, server,
    },
    telemetry::trace::Trace,
};
use time::OffsetDateTime;
use webhook_service::{schedule, sender};

use super::{assert_refusal, choice, is_visible, text};

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The lines of the input as headers of this name; `None` if one can't be sent.
fn headers(name: &HeaderName, input: &[u8]) -> Option<HeaderMap> {
    let lines = input.split(|byte| *byte == b'\n').map(HeaderValue::from_bytes);
    lines.map(|line| Some((name.clone(), line.ok()?))).collect()
}

/// A key is 1 to 255 visible characters, and the same bare and quoted.
pub(super) fn idempotency_keys(input: &[u8]) {
    let name = HeaderName::from_static("idempotency-key");
    if let Some(headers) = headers(&name, input) {
        match idempotency_key::of_request(&headers) {
            Ok(key) => {
                assert_eq!(headers.len(), 1);
                assert_eq!(IdempotencyKey::parse(text(input).unwrap()), Some(key));
                assert!(input.starts_with(b"\"") || !input.contains(&b','));
            }
            Err(problem) => assert_refusal(&problem, input),
        }
        assert!(
            idempotency_key::optional(&headers).is_ok_and(|key| key.is_some())
                || idempotency_key::of_request(&headers).is_err()
        );
    }
    let Some(text) = text(input) else { return };
    let key = IdempotencyKey::parse(text);
    if !text.starts_with('"') {
        assert_eq!(key.is_some(), is_visible(text), "{text:?}");
    }
    let Some(key) = key else { return };
    let bare = key.as_str();
    assert!(is_visible(bare), "{bare:?}");
    let quoted = format!("\"{}\"", bare.replace('\\', "\\\\").replace('"', "\\\""));
    assert_eq!(IdempotencyKey::parse(&quoted).as_ref(), Some(&key));
    if text.starts_with('"') {
        assert_eq!(text, quoted);
    } else {
        assert_eq!(text, bare);
    }
}

/// A wait is a number of seconds that the request has, or the longest one.
pub(super) fn preferences(input: &[u8]) {
    let Some(headers) = headers(&HeaderName::from_static("prefer"), input) else { return };
    let longest = Duration::from_secs(30);
    let Some(wait) = prefer::wait(&headers, longest) else { return };
    assert!(wait <= longest);
    let lines = headers.values().filter_map(|line| line.to_str().ok());
    let preferences = lines.flat_map(|line| line.split(','));
    let seconds = preferences.filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim();
        let value =
            value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let is_wait = name.trim().eq_ignore_ascii_case("wait") && is_number(value);
        is_wait.then(|| value.parse::<u64>().ok()).flatten()
    });
    let mut waits = seconds.map(|seconds| Duration::from_secs(seconds).min(longest));
    assert!(waits.any(|known| known == wait), "{wait:?}");
}

/// A tag is known if the list names it, and only then.
pub(super) fn entity_tags(input: &[u8]) {
    let tag = EntityTag::of(b"a");
    let Some(headers) = headers(&IF_NONE_MATCH, input) else { return };
    let lines = headers.values().filter_map(|line| line.to_str().ok());
    // A comma between quotation marks is part of a tag.
    let marked =
        |(at, part): (usize, &str)| part.replace(',', if at % 2 == 0 { "\n" } else { "," });
    let marked =
        lines.map(|line| line.split('"').enumerate().map(marked).collect::<Vec<_>>().join("\""));
    let tags = marked.collect::<Vec<_>>().join("\n");
    let weak = format!("W/{}", tag.as_str());
    let mut tags = tags.split('\n').map(str::trim);
    let is_named = tags.any(|named| named == tag.as_str() || named == weak || named == "*");
    assert_eq!(tag.is_known(&headers), is_named);
}

/// The first byte is the file's size. A part lies in the file, and is the one that was asked for.
pub(super) fn ranges(input: &[u8]) {
    let Some((size, rest)) = choice(input) else { return };
    let Some(text) = text(rest) else { return };
    let size = u64::try_from(size).unwrap();
    let requested = parse_range(text, size);
    let range = text.strip_prefix("bytes=").unwrap_or_default().trim();
    let (first, last) = range.split_once('-').unwrap_or(("x", "x"));
    let is_range = match (first, last) {
        ("", last) => is_number(last),
        (first, "") => is_number(first),
        (first, last) => is_number(first) && is_number(last),
    };
    let Requested::Part(range) = requested else {
        assert!(is_range || requested == Requested::Whole, "{text:?} {requested:?}");
        return;
    };
    assert!(is_range && range.start < range.end && range.end <= size, "{text:?} {range:?}");
    if first.is_empty() {
        assert_eq!(range.end, size);
        assert_eq!((range.end - range.start).min(size), last.parse::<u64>().unwrap().min(size));
    } else {
        assert_eq!(range.start, first.parse::<u64>().unwrap());
        let end =
            if last.is_empty() { size } else { last.parse::<u64>().unwrap().saturating_add(1) };
        assert_eq!(range.end, end.min(size));
    }
}

/// Lines: a target, and headers. A request that passes has one host, a short target and a short
/// head.
pub(super) fn request_heads(input: &[u8]) {
    let Some((choice, rest)) = choice(input) else { return };
    let mut lines = rest.split(|byte| *byte == b'\n');
    // Longer than an input is.
    let target = lines.next().unwrap_or_default().repeat(1 + choice / 64);
    let Ok(uri) = Uri::try_from(&target[..]) else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.version_mut() = [Version::HTTP_11, Version::HTTP_2][choice % 2];
    for line in lines {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(&line[at + 1..].repeat(1 + choice / 32));
        if let (Ok(name), Ok(value)) = (name, value) {
            request.headers_mut().append(name, value);
        }
    }
    if let Err(problem) = server::check_head(&request) {
        return assert_refusal(&problem, input);
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    assert!(hosts == 1 || (hosts == 0 && request.version() == Version::HTTP_2));
    let path = request.uri().path_and_query();
    assert!(path.is_none_or(|path| path.as_str().len() <= 8192));
    let headers = request.headers().iter();
    assert!(headers.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() <= 16384);
}

/// A receiver can delay its deliveries by a day at most.
pub(super) fn retry_after(input: &[u8]) {
    let Some(headers) = headers(&RETRY_AFTER, input) else { return };
    let now = OffsetDateTime::from_unix_timestamp(1_795_942_800).unwrap();
    let asked = sender::retry_after(&headers, now);
    let longest = schedule::LONGEST_RETRY_AFTER;
    let next = schedule::after_attempts(1, asked, 0.5).unwrap();
    assert!(next <= longest && schedule::pause_after(5, asked, 0.5) <= longest);
    assert!(schedule::pause_after(0, asked, 0.5) <= longest);
}

/// An accepted trace context is written in the form of version 00, with the same ids.
pub(super) fn traceparents(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Some(trace) = Trace::parse(text) else { return };
    let written = trace.traceparent();
    assert_eq!(written.len(), 55);
    assert_eq!(written[3..53], text.trim()[3..53]);
    assert_eq!(Trace::parse(&written).unwrap().traceparent(), written);
    assert_eq!(trace.id(), written[3..35]);
}
