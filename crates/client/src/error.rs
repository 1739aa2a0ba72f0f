//! Why a request failed, and what that says about its effect.

use std::{error, fmt, time::Duration};

use http::{StatusCode, header::RETRY_AFTER};
use serde::Deserialize;

use crate::Answer;

/// The longest text of another server that is kept.
const LONGEST_TEXT: usize = 200;
/// A server may not hold a client for longer than this by `Retry-After`.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A request failed.
#[derive(Debug)]
pub struct Error {
    cause: Cause,
    /// Set by the client, which knows the request and its earlier tries.
    unknown: bool,
}

/// The cause of an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The API, or a proxy before it, refused the request.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The server can't be reached: the request was not sent.
    #[error("the server can't be reached")]
    Unreachable(#[source] Box<dyn error::Error + Send + Sync>),
    /// The connection broke before the complete answer.
    #[error("the connection broke before the answer")]
    NoAnswer(#[source] Box<dyn error::Error + Send + Sync>),
    /// No complete answer arrived in this time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The body of the answer is damaged.
    #[error("the answer is damaged: {0}")]
    BrokenAnswer(String),
    /// The answer is complete, but not one that this client knows.
    #[error("the answer is not one that this client knows: {0}")]
    UnexpectedAnswer(String),
    /// The request can't be sent as it is.
    #[error("the request can't be sent: {0}")]
    InvalidRequest(String),
    /// A record did not settle in the time of [`crate::Client::settled`]. It is durable.
    #[error("record {record} is still PENDING after {waited:?}")]
    StillPending {
        /// The record.
        record: contract::RecordId,
        /// The time that was waited.
        waited: Duration,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.cause.source()
    }
}

impl Error {
    pub(crate) const fn new(cause: Cause) -> Self {
        Self { cause, unknown: false }
    }

    pub(crate) fn invalid_request(reason: impl Into<String>) -> Self {
        Self::new(Cause::InvalidRequest(reason.into()))
    }

    /// The cause of the last try.
    #[must_use]
    pub const fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The problem, if there was an answer that refused the request.
    #[must_use]
    pub const fn problem(&self) -> Option<&Problem> {
        match &self.cause {
            Cause::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the same request, with the same idempotency key, may be sent again and may then
    /// succeed. Otherwise the answer is final.
    #[must_use]
    pub const fn may_retry(&self) -> bool {
        match &self.cause {
            Cause::Problem(problem) => {
                matches!(problem.status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
            }
            Cause::Unreachable(_)
            | Cause::NoAnswer(_)
            | Cause::Timeout(_)
            | Cause::BrokenAnswer(_)
            | Cause::StillPending { .. } => true,
            Cause::UnexpectedAnswer(_) | Cause::InvalidRequest(_) => false,
        }
    }

    /// Whether the request may have had its effect: in its last try or in an earlier one. Send it
    /// again with the same key to learn its outcome; a new key could move the money twice.
    #[must_use]
    pub const fn outcome_is_unknown(&self) -> bool {
        self.unknown
    }

    /// How long to wait before the next try, if the answer says so.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match &self.cause {
            Cause::Problem(problem) => problem.retry_after,
            _ => None,
        }
    }

    /// Whether the cause leaves open whether a request that changes something was applied.
    pub(crate) fn leaves_outcome_open(&self) -> bool {
        match &self.cause {
            Cause::Problem(problem) => problem.leaves_outcome_open(),
            Cause::NoAnswer(_)
            | Cause::Timeout(_)
            | Cause::BrokenAnswer(_)
            | Cause::UnexpectedAnswer(_) => true,
            Cause::Unreachable(_) | Cause::InvalidRequest(_) | Cause::StillPending { .. } => false,
        }
    }

    pub(crate) const fn mark_unknown(mut self, unknown: bool) -> Self {
        self.unknown |= unknown;
        self
    }
}

/// A refusal: RFC 9457, `application/problem+json`, or the answer of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The name of the problem's type, such as `invalid-field`. It never changes: branch on it.
    /// `None` in the answer of another server, such as a proxy.
    pub slug: Option<String>,
    /// The meaning of the type. Empty in an answer that is no problem.
    pub title: String,
    /// The cause in this request, or the remedy. Its text may change. The beginning of an answer
    /// that is no problem.
    pub detail: String,
    /// The first invalid field, header or parameter.
    pub field: Option<String>,
    /// Each invalid part of the request.
    pub errors: Vec<InvalidPart>,
    /// The trace of the request, for the operators.
    pub trace_id: Option<String>,
    /// The header `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// An invalid part of a request. It has one of the three places.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InvalidPart {
    /// A field of the body, as a JSON Pointer behind `#`.
    pub pointer: Option<String>,
    /// A header.
    pub header: Option<String>,
    /// A parameter of the query.
    pub parameter: Option<String>,
    /// The reason.
    pub detail: String,
}

/// The members of a problem. Another server's may be of any form.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProblemBody {
    r#type: String,
    title: String,
    detail: String,
    field: Option<String>,
    errors: Vec<InvalidPart>,
    trace_id: Option<String>,
}

impl Problem {
    pub(crate) fn of(answer: &Answer) -> Self {
        let body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&answer.body);
            ProblemBody { detail: text.chars().take(LONGEST_TEXT).collect(), ..Default::default() }
        });
        // The form of a date is not used by the API.
        let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let seconds = seconds.and_then(|text| text.parse().ok());
        let retry_after =
            seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        Self { retry_after, ..Self::new(answer.status, body) }
    }

    pub(crate) fn new(status: StatusCode, body: ProblemBody) -> Self {
        let ProblemBody { r#type, title, detail, field, errors, trace_id } = body;
        let slug = r#type.strip_prefix("/problems/").map(str::to_owned);
        Self { status, slug, title, detail, field, errors, trace_id, retry_after: None }
    }

    /// Whether the problem is of this type.
    #[must_use]
    pub fn is(&self, slug: &str) -> bool {
        self.slug.as_deref() == Some(slug)
    }

    fn leaves_outcome_open(&self) -> bool {
        match self.status.as_u16() {
            // A proxy may give up on a request that the service has received.
            408 => self.slug.is_none(),
            503 => !self.is("unavailable"),
            status => status >= 500,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, title, detail, .. } = self;
        write!(f, "{}", status.as_u16())?;
        if let Some(slug) = &self.slug {
            write!(f, " {slug}")?;
        }
        let text = if detail.is_empty() { title } else { detail };
        if text.is_empty() { Ok(()) } else { write!(f, ": {text}") }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    fn error(status: u16, body: &str) -> Error {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "2".parse().unwrap());
        let (status, body) = (StatusCode::from_u16(status).unwrap(), Bytes::from(body.to_owned()));
        Answer { status, headers, body }.success().unwrap_err()
    }

    fn problem(status: u16, slug: &str) -> Error {
        error(status, &format!(r#"{{"type":"/problems/{slug}","title":"t","detail":"d"}}"#))
    }

    #[test]
    fn what_is_temporary_may_be_sent_again_and_what_may_be_stored_is_unknown() {
        let (may_retry, unknown) = (true, true);
        for (error, expected) in [
            (problem(400, "malformed-json"), (false, false)),
            (problem(401, "unauthenticated"), (false, false)),
            (problem(404, "account-not-found"), (false, false)),
            (problem(409, "report-state-conflict"), (false, false)),
            (problem(422, "idempotency-key-reused"), (false, false)),
            (problem(501, "ledger-reads-off"), (false, unknown)),
            (problem(408, "body-too-slow"), (may_retry, false)),
            (problem(429, "too-many-requests"), (may_retry, false)),
            (problem(503, "unavailable"), (may_retry, false)),
            (problem(503, "outcome-unknown"), (may_retry, unknown)),
            (problem(500, "internal"), (may_retry, unknown)),
            // Of a proxy.
            (error(408, ""), (may_retry, unknown)),
            (error(429, "slow down"), (may_retry, false)),
            (error(502, "<html>"), (may_retry, unknown)),
            (error(503, r#"{"type":"about:blank"}"#), (may_retry, unknown)),
            (error(504, "[]"), (may_retry, unknown)),
            (error(413, ""), (false, false)),
            (Error::new(Cause::Unreachable("refused".into())), (may_retry, false)),
            (Error::new(Cause::NoAnswer("reset".into())), (may_retry, unknown)),
            (Error::new(Cause::Timeout(Duration::ZERO)), (may_retry, unknown)),
            (Error::new(Cause::InvalidRequest(String::new())), (false, false)),
        ] {
            assert_eq!((error.may_retry(), error.leaves_outcome_open()), expected, "{error}");
        }
    }

    #[test]
    fn a_damaged_body_may_be_asked_for_again_and_an_unknown_form_may_not() {
        let answer = |body: &'static str| Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(body),
        };
        for (body, may_retry) in [("{\"recordId", true), ("", true), ("{\"recordId\":1}", false)] {
            let error = answer(body).json::<crate::Record>().unwrap_err();
            assert_eq!(
                (error.may_retry(), error.leaves_outcome_open()),
                (may_retry, true),
                "{body}"
            );
        }
    }

    #[test]
    fn a_problem_has_all_that_the_answer_says() {
        let body = r##"{"type":"/problems/invalid-field","status":422,"title":"A field is invalid.",
            "detail":"amount: must be greater than zero.","field":"amount","traceId":"0af7",
            "errors":[{"pointer":"#/amount","detail":"must be greater than zero."}]}"##;
        let error = error(422, body);
        let problem = error.problem().unwrap();
        assert!(problem.is("invalid-field") && !problem.is("invalid"));
        assert_eq!(problem.errors[0].pointer.as_deref(), Some("#/amount"));
        assert_eq!(problem.field.as_deref(), Some("amount"));
        assert_eq!(problem.trace_id.as_deref(), Some("0af7"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        assert_eq!(error.to_string(), "422 invalid-field: amount: must be greater than zero.");
    }
}
