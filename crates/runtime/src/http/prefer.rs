//! `Prefer: wait=N` (RFC 7240): the client waits up to N seconds for the final
//! state instead of polling.

use std::time::Duration;

use axum::http::HeaderMap;

use super::list::{Quoted, split};

/// The client's wait, at most `longest`; `None` without the preference. An
/// invalid preference is ignored (RFC 7240, section 2).
#[must_use]
pub fn wait(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let lines = headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
    let seconds: u64 = lines
        .flat_map(|line| split(line, ',', Quoted::Text))
        .filter_map(|preference| split(preference, ';', Quoted::Text).next()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, value)| seconds(value.trim()))?;
    Some(Duration::from_secs(seconds).min(longest))
}

/// A number, bare or quoted.
fn seconds(value: &str) -> Option<u64> {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let digits = quoted.unwrap_or(value);
    // A sign is none of a number in HTTP.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_found_among_other_preferences_and_is_bounded() {
        let longest = Duration::from_secs(30);
        for (prefer, expected) in [
            ("wait=5", Some(5)),
            ("respond-async, wait=10", Some(10)),
            ("Wait = \"7\" ; x=y", Some(7)),
            ("wait=9999", Some(30)),
            ("x=\"a, wait=5\", wait=6", Some(6)),
            ("x=\"\\\", wait=5\", wait=7;y=\"b,wait=5\"", Some(7)),
            ("x=\"\\\\\", wait=8", Some(8)),
            ("wait=\"5;6\"", None),
            ("wait=-1", None),
            ("wait=+1", None),
            ("wait=\"1", None),
            ("wait", None),
            ("return=minimal", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", prefer.parse().unwrap());
            assert_eq!(wait(&headers, longest), expected.map(Duration::from_secs), "{prefer}");
        }
    }
}
