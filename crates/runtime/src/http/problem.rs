//! Error responses: RFC 9457 `application/problem+json`. The `type` of a problem
//! never changes, so that a client can branch on it.

use std::fmt;

pub use super::place::{Place, Pointer};
use axum::{
    http::{
        HeaderValue, StatusCode, Uri,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use contract::{Scope, UserId};
use problem_details::ProblemDetails;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

pub use super::problem_type::{Definition, ProblemType};
use super::refusal_log::Refusal;
use crate::problem_types;

problem_types! {
    /// The body is not JSON in UTF-8, or ends early.
    pub const MALFORMED_JSON: (BAD_REQUEST, "malformed-json",
        "The body is not valid JSON.",
        "Send one JSON object without a byte order mark. Nothing was stored.");
    /// A field occurs twice in the body. Parsers disagree about which one counts, so none does.
    pub const DUPLICATE_FIELD: (BAD_REQUEST, "duplicate-field",
        "A field occurs twice.",
        "Send each field once. Nothing was stored.");
    /// A field or parameter is missing, unknown, of the wrong type or out of bounds.
    pub const INVALID_FIELD: (UNPROCESSABLE_ENTITY, "invalid-field",
        "A field is invalid.",
        "Correct the field that `field` names, as `detail` says. Nothing was stored.");
    /// The body exceeds the limit that `detail` names.
    pub const BODY_TOO_LARGE: (PAYLOAD_TOO_LARGE, "body-too-large",
        "The body is too large.",
        "Send a smaller body: divide a batch into several. Nothing was stored.");
    /// The body did not arrive within the time that `detail` names.
    pub const BODY_TOO_SLOW: (REQUEST_TIMEOUT, "body-too-slow",
        "The body took too long to arrive.",
        "Send the request again, over a faster connection. Nothing was stored.");
    /// The `Content-Type` is not `application/json`, or the body has a `Content-Encoding`.
    pub const UNSUPPORTED_MEDIA_TYPE: (UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type",
        "The body must be sent as application/json.",
        "Send the header `Content-Type: application/json` and an uncompressed body.");
    /// The head of the request can't be parsed, or it does not have one `Host` header.
    pub const MALFORMED_REQUEST: (BAD_REQUEST, "malformed-request",
        "The request is not valid HTTP.",
        "Use an HTTP library instead of writing requests by hand.");
    /// The path and query exceed the limit that `detail` names.
    pub const URI_TOO_LONG: (URI_TOO_LONG, "uri-too-long",
        "The path is too long.",
        "Send a shorter path and query.");
    /// The headers exceed the limit that `detail` names.
    pub const HEAD_TOO_LARGE: (REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large",
        "The headers are too large.",
        "Send fewer and shorter headers.");
    /// The API has no resource at this path.
    pub const NO_SUCH_PATH: (NOT_FOUND, "no-such-path",
        "There is nothing at this path.",
        "Compare the path with the reference at `/docs`.");
    /// The resource exists, but does not have this method.
    pub const METHOD_NOT_ALLOWED: (METHOD_NOT_ALLOWED, "method-not-allowed",
        "This path does not support that method.",
        "Use a method that the header `Allow` names.");
    /// The service, or something it needs, is temporarily unavailable or overloaded. This request
    /// stored nothing.
    pub const UNAVAILABLE: (SERVICE_UNAVAILABLE, "unavailable",
        "The service is temporarily unavailable.",
        "Send the request again after the seconds in `Retry-After`, with the same \
         `Idempotency-Key`.");
    /// A write was sent to the database, and its answer did not arrive in time. It may be
    /// stored.
    pub const OUTCOME_UNKNOWN: (SERVICE_UNAVAILABLE, "outcome-unknown",
        "The request may or may not have been stored.",
        "Send the request again after the seconds in `Retry-After`, with the same \
         `Idempotency-Key`: it is stored once at most. A new key could move the money twice. Go on \
         until a response other than 5xx: an `unavailable` meanwhile tells nothing about the \
         earlier request.");
    /// The request has no bearer token, or an invalid or expired one. An API key may also be
    /// revoked.
    pub const UNAUTHENTICATED: (UNAUTHORIZED, "unauthenticated",
        "A valid bearer token is required.",
        "Get a new token from the issuer, or a new API key, and send it as `Authorization: Bearer \
         <token>`.");
    /// The token or API key is valid, but does not allow this request.
    pub const FORBIDDEN: (FORBIDDEN, "forbidden",
        "The token does not allow this.",
        "Use a token with the scope that `detail` and `WWW-Authenticate` name.");
    /// The caller has sent more requests than its rate limit allows, and `RateLimit-Policy` tells the
    /// limit. Or its address has sent many requests without a valid token or API key, and this token
    /// was not verified before.
    pub const TOO_MANY_REQUESTS: (TOO_MANY_REQUESTS, "too-many-requests",
        "The caller sends too many requests.",
        "Send the request again after the seconds in `Retry-After`. Nothing was stored.");
    /// An id in the path does not have the form of an id.
    pub const MALFORMED_ID: (BAD_REQUEST, "malformed-id",
        "An id in the path is malformed.",
        "Send the id as the API gave it: a UUID of 36 characters.");
    /// An error caused by a bug. It was logged.
    pub const INTERNAL: (INTERNAL_SERVER_ERROR, "internal",
        "The service failed.",
        "The request may have been stored: send it again with the same `Idempotency-Key`. If the \
         problem stays, report its `traceId`.");
}

/// One problem, as a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    problem_type: ProblemType,
    detail: String,
    place: Option<Place>,
    retry_after: Option<u16>,
    lacks: Option<Scope>,
    /// For the log.
    refusal: Option<Box<Refusal>>,
}

/// An error (RFC 9457). A client branches on `type`, which never changes.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem, examples(json!({
    "type": "/problems/invalid-field",
    "status": 422,
    "title": "A field is invalid.",
    "detail": "amount: must be greater than zero.",
    "field": "amount",
    "errors": [{ "pointer": "#/amount", "detail": "amount: must be greater than zero." }],
    "traceId": "0af7651916cd43dd8448eb211c80319c",
})))]
#[allow(dead_code, reason = "only the schema is used")]
pub struct ProblemView {
    /// The type of the problem. Its page says what it means and what to do.
    #[schema(format = "uri-reference")]
    r#type: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The meaning of the type: the same sentence in every response.
    title: String,
    /// The cause in this request, or the remedy. Its text may change.
    detail: String,
    /// The invalid field, header or parameter.
    #[schema(nullable = false)]
    field: Option<String>,
    /// What is invalid.
    #[schema(nullable = false, min_items = 1)]
    errors: Option<Vec<InvalidPartView>>,
    /// The trace of the request, as in the header `Request-Id` and in the service's log. Absent
    /// in the problem of a batch's item.
    #[schema(nullable = false, pattern = "^[0-9a-f]{32}$")]
    trace_id: Option<String>,
}

/// An invalid part of a request: its place and the reason. It has one of the three places.
#[derive(ToSchema)]
#[schema(as = InvalidPart)]
#[allow(dead_code, reason = "only the schema is used")]
struct InvalidPartView {
    /// A field of the body, as a JSON Pointer behind `#` (RFC 6901).
    #[schema(nullable = false, examples("#/amount"))]
    pointer: Option<String>,
    /// A header.
    #[schema(nullable = false)]
    header: Option<String>,
    /// A parameter of the query.
    #[schema(nullable = false)]
    parameter: Option<String>,
    /// The reason.
    detail: String,
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
    pub(super) const fn new(problem_type: ProblemType, detail: String) -> Self {
        Self { problem_type, detail, place: None, retry_after: None, lacks: None, refusal: None }
    }

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

    /// Notes for the log that the resource belongs to somebody else than this caller. The response
    /// is that to a request for a resource that does not exist.
    #[must_use]
    pub fn hidden_from(self, caller: &UserId) -> Self {
        self.refused(Refusal::Hidden(caller.clone()))
    }

    /// Notes for the log who was refused.
    #[must_use]
    pub(super) fn refused(mut self, refusal: Refusal) -> Self {
        self.refusal = Some(Box::new(refusal));
        self
    }

    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_deref()
    }

    /// The same refusal, if it is one, as another problem.
    #[must_use]
    pub fn instead_of(mut self, other: Self) -> Self {
        self.refusal = other.refusal;
        self
    }

    /// The cause or the remedy.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The HTTP status of the problem's type.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.problem_type.0.status
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
