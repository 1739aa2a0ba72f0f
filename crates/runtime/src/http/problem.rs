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

pub use super::place::{Place, Pointer};

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
            place: None,
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
    place: Option<Place>,
    retry_after: Option<u16>,
    lacks: Option<Scope>,
}

/// The members of a problem beside those of RFC 9457.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extensions<'a> {
    /// The name of the invalid field, header or parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// What is invalid, as in the example of RFC 9457.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[InvalidPart<'a>; 1]>,
    /// The trace of the request. The service's log lines about the request have it, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

/// One invalid part of a request, with the place and the reason.
#[derive(Serialize)]
struct InvalidPart<'a> {
    #[serde(flatten)]
    place: &'a Place,
    detail: &'a str,
}

impl Problem {
    /// Names the invalid field of the body.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        let field = field.into();
        let pointer = Pointer::default().field(&field);
        self.at_place(Place::Body { pointer, field: Some(field) })
    }

    /// Names the invalid header.
    #[must_use]
    pub fn at_header(self, header: &'static str) -> Self {
        self.at_place(Place::Header { header })
    }

    /// Names the invalid parameter of the URL's query.
    #[must_use]
    pub fn at_parameter(self, parameter: impl Into<String>) -> Self {
        self.at_place(Place::Parameter { parameter: parameter.into() })
    }

    /// Says what is invalid.
    #[must_use]
    pub fn at_place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The problem of a part of the body as the body has it: at this item of this array.
    #[must_use]
    pub fn in_item(mut self, array: &str, index: usize) -> Self {
        let item = Pointer::default().field(array).item(index);
        self.place = Some(match self.place {
            None => Place::Body { pointer: item, field: None },
            Some(Place::Body { pointer, field }) => {
                Place::Body { pointer: item.join(&pointer), field }
            }
            Some(other) => other,
        });
        self
    }

    /// Adds the trace to a response that has a problem.
    pub(super) fn trace(response: &mut Response, trace_id: &str) {
        if let Some(problem) = response.extensions_mut().remove::<Self>() {
            *response.body_mut() = problem.details(Some(trace_id)).into_response().into_body();
        }
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

    /// The cause or the remedy.
    pub(super) fn detail(&self) -> &str {
        &self.detail
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

    fn details<'a>(&'a self, trace_id: Option<&'a str>) -> ProblemDetails<Extensions<'a>> {
        let uri =
            Uri::try_from(format!("/problems/{}", self.problem_type.slug)).unwrap_or_default();
        ProblemDetails::from_status_code(self.problem_type.status)
            .with_type(uri)
            .with_title(self.problem_type.title)
            .with_detail(self.detail.clone())
            .with_extensions(Extensions {
                field: self.place.as_ref().and_then(Place::field),
                errors: self
                    .place
                    .as_ref()
                    .map(|place| [InvalidPart { place, detail: &self.detail }]),
                trace_id,
            })
    }
}

/// A problem inside a larger response.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.details(None).serialize(serializer)
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

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.details(None).into_response();
        let status = self.problem_type.status;
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
        response.extensions_mut().insert(self);
        response
    }
}
