//! A text that is part of the program, such as a page. It changes only with the program.

use axum::{
    body::Bytes,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};

use super::entity_tag::EntityTag;

/// No scripts, nothing from elsewhere: pages have one style sheet.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A text with its media type and its ETag.
#[derive(Debug, Clone)]
pub struct Asset {
    text: Bytes,
    media_type: &'static str,
    tag: EntityTag,
}

impl Asset {
    /// An asset of this media type.
    #[must_use]
    pub fn new(text: impl Into<String>, media_type: &'static str) -> Self {
        let text = Bytes::from(text.into());
        Self { tag: EntityTag::of(&text), text, media_type }
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
        let etag = [(ETAG, self.tag.as_str())];
        if self.tag.is_known(request) {
            return (StatusCode::NOT_MODIFIED, headers, etag).into_response();
        }
        (headers, etag, self.text.clone()).into_response()
    }
}
