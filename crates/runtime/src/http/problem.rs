//! Error responses: RFC 9457 `application/problem+json`. The `type` of a problem
//! never changes, so that a client can branch on it.

use std::fmt;

use axum::{
    http::{
        HeaderValue, StatusCode, Uri,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use contract::Scope;
use problem_details::ProblemDetails;
use serde::{Serialize, Serializer};

/// A type of problem. Its `type` is `/problems/<slug>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemType {
    /// The HTTP status.
    pub status: StatusCode,
    /// The last part of the `type`.
    pub slug: &'static str,
    /// The same sentence in every response.
    pub title: &'static str,
}

impl ProblemType {
    /// A type of problem.
    #[must_use]
    pub const fn new(status: StatusCode, slug: &'static str, title: &'static str) -> Self {
        Self { status, slug, title }
    }

    /// A problem of this type. `detail` gives the cause or the remedy.
    #[must_use]
    pub fn because(self, detail: impl Into<String>) -> Problem {
        Problem {
            problem_type: self,
            detail: detail.into(),
            field: None,
            retry_after: None,
            lacks: None,
        }
    }
}

/// The body is not JSON.
pub const MALFORMED_JSON: ProblemType =
    ProblemType::new(StatusCode::BAD_REQUEST, "malformed-json", "The body is not valid JSON.");
/// A field occurs twice.
pub const DUPLICATE_FIELD: ProblemType =
    ProblemType::new(StatusCode::BAD_REQUEST, "duplicate-field", "A field occurs twice.");
/// A field is missing, unknown, of the wrong type or out of bounds.
pub const INVALID_FIELD: ProblemType =
    ProblemType::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", "A field is invalid.");
/// The body exceeds the limit.
pub const BODY_TOO_LARGE: ProblemType =
    ProblemType::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large.");
/// The body did not arrive in time.
pub const BODY_TOO_SLOW: ProblemType = ProblemType::new(
    StatusCode::REQUEST_TIMEOUT,
    "body-too-slow",
    "The body took too long to arrive.",
);
/// The content type is not JSON.
pub const UNSUPPORTED_MEDIA_TYPE: ProblemType = ProblemType::new(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "unsupported-media-type",
    "The body must be sent as application/json.",
);
/// The head is not valid HTTP.
pub const MALFORMED_REQUEST: ProblemType = ProblemType::new(
    StatusCode::BAD_REQUEST,
    "malformed-request",
    "The request is not valid HTTP.",
);
/// The path and query exceed the limit.
pub const URI_TOO_LONG: ProblemType =
    ProblemType::new(StatusCode::URI_TOO_LONG, "uri-too-long", "The path is too long.");
/// The headers exceed the limit.
pub const HEAD_TOO_LARGE: ProblemType = ProblemType::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head-too-large",
    "The headers are too large.",
);
/// No such path.
pub const NO_SUCH_PATH: ProblemType =
    ProblemType::new(StatusCode::NOT_FOUND, "no-such-path", "There is nothing at this path.");
/// The path exists, but not with this method.
pub const METHOD_NOT_ALLOWED: ProblemType = ProblemType::new(
    StatusCode::METHOD_NOT_ALLOWED,
    "method-not-allowed",
    "This path does not support that method.",
);
/// The service is temporarily unavailable. This request stored nothing.
pub const UNAVAILABLE: ProblemType = ProblemType::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "unavailable",
    "The service is temporarily unavailable.",
);
/// A write was sent to the database, and its answer did not arrive in time. It may be
/// stored.
pub const OUTCOME_UNKNOWN: ProblemType = ProblemType::new(
    StatusCode::SERVICE_UNAVAILABLE,
    "outcome-unknown",
    "The request may or may not have been stored.",
);
/// No valid bearer token.
pub const UNAUTHENTICATED: ProblemType = ProblemType::new(
    StatusCode::UNAUTHORIZED,
    "unauthenticated",
    "A valid bearer token is required.",
);
/// The token is valid, but does not allow the request.
pub const FORBIDDEN: ProblemType =
    ProblemType::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow this.");
/// The caller has sent more requests than its rate limit allows.
pub const TOO_MANY_REQUESTS: ProblemType = ProblemType::new(
    StatusCode::TOO_MANY_REQUESTS,
    "too-many-requests",
    "The caller sends too many requests.",
);
/// An id in the path does not have the form of an id.
pub const MALFORMED_ID: ProblemType =
    ProblemType::new(StatusCode::BAD_REQUEST, "malformed-id", "An id in the path is malformed.");
/// An error caused by a bug.
pub const INTERNAL: ProblemType =
    ProblemType::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service failed.");

/// One problem, as a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    problem_type: ProblemType,
    detail: String,
    field: Option<String>,
    retry_after: Option<u16>,
    lacks: Option<Scope>,
}

#[derive(Serialize)]
struct Extensions {
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl Problem {
    /// Names the invalid field, header or parameter.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Sets `Retry-After`, in seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Names the scope that the token lacks.
    #[must_use]
    pub(super) const fn lacks(mut self, scope: Scope) -> Self {
        self.lacks = Some(scope);
        self
    }

    /// The HTTP status of the problem's type.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.problem_type.status
    }

    /// Whether the problem is of this type.
    #[must_use]
    pub fn is(&self, problem_type: ProblemType) -> bool {
        self.problem_type == problem_type
    }

    fn details(&self) -> ProblemDetails<Extensions> {
        let uri =
            Uri::try_from(format!("/problems/{}", self.problem_type.slug)).unwrap_or_default();
        ProblemDetails::from_status_code(self.problem_type.status)
            .with_type(uri)
            .with_title(self.problem_type.title)
            .with_detail(self.detail.clone())
            .with_extensions(Extensions { field: self.field.clone() })
    }
}

/// A problem inside a larger response.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.details().serialize(serializer)
    }
}

/// The problem of a call to the database that certainly stored nothing. Logs the error.
#[must_use]
pub fn of_database(error: &impl fmt::Display, is_transient: bool) -> Problem {
    if is_transient {
        tracing::warn!(%error, "the database is unavailable");
        let detail = "The database is unavailable. This request stored nothing. Try again.";
        UNAVAILABLE.because(detail).retry_after(1)
    } else {
        tracing::error!(%error, "a statement failed");
        INTERNAL.because("This is a bug; it was logged.")
    }
}

/// The problem of a write that may be stored. `remedy` is for the client. Logs the error.
#[must_use]
pub fn of_unknown_write(error: &impl fmt::Display, remedy: &str) -> Problem {
    tracing::warn!(%error, "the outcome of a write is unknown");
    OUTCOME_UNKNOWN.because(remedy).retry_after(1)
}

/// The reason of a response with 401 or 403, for the log.
#[derive(Debug, Clone)]
pub(super) struct Refusal(pub(super) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.details().into_response();
        let status = self.problem_type.status;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            response.extensions_mut().insert(Refusal(self.detail));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(scope) = self.lacks {
            // RFC 6750, section 3.1.
            let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
            if let Ok(challenge) = HeaderValue::try_from(challenge) {
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
        }
        response
    }
}
