//! The client's own name for one request.

use std::{fmt, str::FromStr};

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text is no idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 visible ASCII characters without quotation marks")]
pub struct InvalidKey;

/// Names one request, so that it has its effect once, however often it is sent: 1 to 255 visible
/// ASCII characters. Quotation marks are not allowed, because the header has a quoted form.
///
/// Choose it once for each request, and store it durably before the request is first sent. Never
/// derive it from the time or the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A new key: a random UUID.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let fits = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if (1..=255).contains(&text.len()) && fits { Ok(Self(text)) } else { Err(InvalidKey) }
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        text.to_owned().try_into()
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_without_quotation_marks() {
        let long = "k".repeat(255);
        for text in ["a", "invoice-17", "!~", &long] {
            assert_eq!(text.parse::<IdempotencyKey>().unwrap().as_str(), text);
        }
        let longer = "k".repeat(256);
        for text in ["", "a b", "\"a\"", "a\n", "é", &longer] {
            assert_eq!(text.parse::<IdempotencyKey>(), Err(InvalidKey), "{text:?}");
        }
        assert_ne!(IdempotencyKey::random(), IdempotencyKey::random());
    }
}
