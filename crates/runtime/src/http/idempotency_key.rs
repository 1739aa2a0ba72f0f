//! The header `Idempotency-Key`: a retry with the same key finds the first request.

use axum::http::HeaderMap;

use super::problem::Problem;
use crate::problem_types;

problem_types! {
    /// The request has no header `Idempotency-Key`. It would have created something, and without a
    /// key it could not be repeated safely.
    pub const KEY_MISSING: (BAD_REQUEST, "idempotency-key-missing",
        "The header Idempotency-Key is required.",
        "Choose a key, such as a UUID, store it with the request, and send it with every retry.");
    /// The idempotency key, in the header or in an item of a batch, is empty, too long or has
    /// characters other than visible ASCII.
    pub const KEY_MALFORMED: (BAD_REQUEST, "idempotency-key-malformed",
        "The Idempotency-Key is malformed.",
        "Send one key of 1 to 255 visible ASCII characters.");
    /// The key belongs to another request: one of another kind, amount or parameter.
    pub const KEY_REUSED: (UNPROCESSABLE_ENTITY, "idempotency-key-reused",
        "The Idempotency-Key was used for another request.",
        "Send a new key for a new request, or the first request again for its outcome. Nothing was \
         stored.");
}

/// A client's key for one request, unique within its scope, such as an account. 1 to 255 visible
/// ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses a key, bare or as a quoted string (RFC 8941, section 3.3.3): `abc`
    /// and `"abc"` are the same key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = match text.strip_prefix('"') {
            None => text.to_owned(),
            Some(quoted) => unescape(quoted.strip_suffix('"')?)?,
        };
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        ((1..=255).contains(&key.len()) && visible).then_some(Self(key))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted.chars();
    while let Some(character) = rest.next() {
        text.push(match character {
            '\\' => rest.next().filter(|escaped| matches!(escaped, '"' | '\\'))?,
            '"' => return None,
            plain => plain,
        });
    }
    Some(text)
}

/// The key in the header of a request that needs none, if it has one.
///
/// # Errors
/// [`KEY_MALFORMED`].
pub fn optional(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    headers.contains_key("idempotency-key").then(|| of_request(headers)).transpose()
}

/// The key in the header of a request. A bare key with a comma is rejected: joined from two
/// headers, it would be another key than each of them.
///
/// # Errors
/// [`KEY_MISSING`] or [`KEY_MALFORMED`].
pub fn of_request(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    const FORM: &str =
        "1 to 255 visible ASCII characters, once, and the same in every retry of a request";
    let mut given = headers.get_all("idempotency-key").into_iter();
    let Some(value) = given.next() else {
        return Err(KEY_MISSING.because(format!("Send {FORM}.")).at_header("Idempotency-Key"));
    };
    // A proxy may join two headers by a comma (RFC 9110, section 5.3).
    if value.as_bytes().contains(&b',') && !value.as_bytes().starts_with(b"\"") {
        let detail = "It has a comma, as if a proxy had joined two headers. Send the header once, \
                      and a key with a comma in quotation marks.";
        return Err(KEY_MALFORMED.because(detail).at_header("Idempotency-Key"));
    }
    let key = value.to_str().ok().and_then(IdempotencyKey::parse);
    match (key, given.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(KEY_MALFORMED.because(format!("It must be {FORM}.")).at_header("Idempotency-Key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_bare_or_quoted() {
        let bare = IdempotencyKey::parse("a-1").unwrap();
        assert_eq!(IdempotencyKey::parse("\"a-1\""), Some(bare));
        assert_eq!(IdempotencyKey::parse(r#""a\"b""#).unwrap().as_str(), "a\"b");
        let long = "k".repeat(256);
        for bad in ["", "\"\"", "a b", "\"a", "\"a\"b\"", r#""a\n""#, "é", "a\tb", &long] {
            assert_eq!(IdempotencyKey::parse(bad), None, "{bad:?}");
        }
        assert!(IdempotencyKey::parse(&"k".repeat(255)).is_some());
    }
}
