//! A text that is part of the program, such as a page. It changes only with the program.

use axum::{
    body::Bytes,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
            REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};
use ring::digest::{SHA256, digest};

/// No scripts, nothing from elsewhere: pages have one style sheet.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A text with its media type and its ETag.
#[derive(Debug, Clone)]
pub struct Asset {
    text: Bytes,
    media_type: &'static str,
    etag: String,
}

impl Asset {
    /// An asset of this media type.
    #[must_use]
    pub fn new(text: impl Into<String>, media_type: &'static str) -> Self {
        let text = Bytes::from(text.into());
        let digest = digest(&SHA256, &text);
        let hex = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}"));
        let etag = format!("\"{}\"", hex.collect::<String>());
        Self { text, media_type, etag }
    }

    /// The response: 304 if the client has the asset. Caches ask again after five minutes.
    #[must_use]
    pub fn response(&self, request: &HeaderMap) -> Response {
        let headers: [(HeaderName, HeaderValue); 5] = [
            (CONTENT_TYPE, HeaderValue::from_static(self.media_type)),
            (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        let etag = [(ETAG, self.etag.as_str())];
        if self.is_known(request) {
            return (StatusCode::NOT_MODIFIED, headers, etag).into_response();
        }
        (headers, etag, self.text.clone()).into_response()
    }

    /// Whether `If-None-Match` names the asset, by the weak comparison (RFC 9110, section 13.1.2).
    fn is_known(&self, request: &HeaderMap) -> bool {
        let lines =
            request.get_all(IF_NONE_MATCH).into_iter().filter_map(|line| line.to_str().ok());
        lines
            .flat_map(|line| line.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == self.etag || tag == "*")
    }
}
