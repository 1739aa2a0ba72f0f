//! Entity tags (RFC 9110, section 8.8.3) and `If-None-Match`.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::{
    list::{Quoted, split},
    problem::{INTERNAL, Problem},
};

/// A strong entity tag: a digest of the bytes of a representation, so that it changes with each
/// of them, also with those that a new release adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// The tag of a representation with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = digest(&SHA256, bytes);
        let start = digest.as_ref().get(..16).unwrap_or_default();
        Self(format!("\"{}\"", URL_SAFE_NO_PAD.encode(start)))
    }

    /// The tag as in the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `If-None-Match` names the tag.
    #[must_use]
    pub fn is_known(&self, request: &HeaderMap) -> bool {
        is_known(request, &self.0)
    }
}

/// Whether `If-None-Match` names a tag, by the weak comparison (RFC 9110, section 13.1.2).
#[must_use]
pub fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let lines = request.get_all(IF_NONE_MATCH).into_iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| split(line, ',', Quoted::EntityTag))
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

/// A representation in JSON, with its tag.
#[derive(Debug)]
pub struct TaggedJson {
    bytes: Vec<u8>,
    tag: EntityTag,
}

impl TaggedJson {
    /// The representation of a view.
    ///
    /// # Errors
    /// `internal`, if the view can't be serialized.
    pub fn new(view: &impl Serialize) -> Result<Self, Problem> {
        let bytes = serde_json::to_vec(view).map_err(|error| {
            tracing::error!(%error, "a response can't be serialized");
            INTERNAL.because("This is a bug; it was logged.")
        })?;
        Ok(Self { tag: EntityTag::of(&bytes), bytes })
    }

    /// The response to a `GET`: 304 without a body, if the client has this representation.
    #[must_use]
    pub fn unless_known(self, request: &HeaderMap) -> Response {
        if self.tag.is_known(request) {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            self.tag.write(response.headers_mut());
            return response;
        }
        self.into_response()
    }
}

impl IntoResponse for TaggedJson {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.bytes));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        self.tag.write(response.headers_mut());
        response
    }
}

impl EntityTag {
    fn write(&self, headers: &mut HeaderMap) {
        if let Ok(tag) = HeaderValue::from_str(&self.0) {
            headers.insert(ETAG, tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_any_list_and_by_the_weak_comparison() {
        let tag = EntityTag::of(b"a");
        assert_eq!(tag.as_str(), "\"ypeBEsobvcr6wjGzmiPcTQ\"");
        assert_ne!(tag, EntityTag::of(b"b"));
        let known = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(IF_NONE_MATCH, line.parse().unwrap());
            }
            tag.is_known(&headers)
        };
        let (own, weak) = (tag.as_str(), format!("W/{}", tag.as_str()));
        for lines in [
            &[own][..],
            &[&weak],
            &["*"],
            &["\"x\" ,", &weak],
            &[&format!("\"x\",{own}")],
            &[&format!("W/\"x,y\", \"\\\",{own}")],
        ] {
            assert!(known(lines), "{lines:?}");
        }
        let twice = format!("W/{weak}");
        for lines in [
            &[][..],
            &["\"x\""],
            &[own.trim_matches('"')],
            &["\"\", \"*\""],
            &["W/*"],
            &[&twice],
            &["\"a,*,b\""],
            &["\"a,", "*\""],
        ] {
            assert!(!known(lines), "{lines:?}");
        }
    }
}
