//! Failures of requests to the API: what happened, and what to do.

use std::{error::Error, fmt, time::Duration};

use http::StatusCode;
use serde::Deserialize;

use crate::{error_chain, output};

/// A request failed.
#[derive(Debug)]
pub(super) enum ApiError {
    /// No response, or only a part of it. The request may still have been processed.
    NoAnswer(String),
    /// The API rejected the request.
    Rejected { status: StatusCode, problem: Problem },
    /// The response is not one of this API.
    Unexpected(String),
    /// The Idempotency-Key can't be sent.
    MalformedKey,
}

/// An error response: RFC 9457.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    title: Option<String>,
    detail: Option<String>,
    field: Option<String>,
}

impl ApiError {
    pub(super) fn unreachable(url: &str, error: impl Error + Send + Sync + 'static) -> Self {
        let cause = error_chain::describe(&anyhow::Error::new(error));
        Self::NoAnswer(format!(
            "no answer from {url}: {cause}. Check the address (PASSBOOK_API_URL) and whether the \
             API runs"
        ))
    }

    pub(super) fn timed_out(url: &str, limit: Duration) -> Self {
        Self::NoAnswer(format!("no answer from {url} within {} s. Try again", limit.as_secs()))
    }

    pub(super) fn interrupted(error: anyhow::Error) -> Self {
        let cause = error_chain::describe(&error);
        Self::NoAnswer(format!("the response was interrupted: {cause}. Try again"))
    }

    pub(super) fn unexpected(error: impl fmt::Display) -> Self {
        Self::Unexpected(format!(
            "the response is not one of Passbook's API: {error}. Check the address \
             (PASSBOOK_API_URL)"
        ))
    }

    /// The error of a response with another status than success.
    pub(super) fn of_response(status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) if problem.title.is_some() => Self::Rejected { status, problem },
            _ if status.is_server_error() => Self::Rejected { status, problem: Problem::default() },
            _ => Self::unexpected(format!("status {status}")),
        }
    }

    /// Whether the same request can succeed later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Rejected { status, .. } => matches!(
                *status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::Unexpected(_) | Self::MalformedKey => false,
        }
    }
}

/// What the user can do about a status, where the API does not say it.
const fn advice(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED => Some("Set PASSBOOK_TOKEN to a valid token"),
        StatusCode::FORBIDDEN => Some("Use a token of another role or of the account's owner"),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Some("Try again later"),
        _ => None,
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(text) | Self::Unexpected(text) => f.write_str(&output::escape(text)),
            Self::MalformedKey => f.write_str("the Idempotency-Key has characters of no header"),
            Self::Rejected { status, problem: Problem { title, detail, field } } => {
                let title = title.as_deref().unwrap_or("The API failed.");
                write!(f, "{status}: {}", output::escape(title))?;
                if let Some(detail) = detail {
                    write!(f, " {}", output::escape(detail))?;
                }
                if let Some(field) = field {
                    write!(f, " (field: {})", output::escape(field))?;
                }
                advice(*status).map_or(Ok(()), |advice| write!(f, " {advice}"))
            }
        }
    }
}

impl Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_detail_and_what_to_do() {
        let body = br#"{"type":"/problems/invalid-field","title":"A field is invalid.",
            "detail":"to is in the future.","field":"to","status":422}"#;
        let error = ApiError::of_response(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert!(!error.is_transient());
        assert_eq!(
            error.to_string(),
            "422 Unprocessable Entity: A field is invalid. to is in the future. (field: to)"
        );
        let error = ApiError::of_response(StatusCode::UNAUTHORIZED, br#"{"title":"No token."}"#);
        assert!(error.to_string().ends_with("Set PASSBOOK_TOKEN to a valid token"), "{error}");
    }

    #[test]
    fn a_gateway_without_a_problem_is_transient_and_another_server_is_not() {
        let gateway = ApiError::of_response(StatusCode::BAD_GATEWAY, b"<html>");
        assert!(gateway.is_transient(), "{gateway}");
        let other = ApiError::of_response(StatusCode::NOT_FOUND, b"<html>");
        assert!(other.to_string().contains("PASSBOOK_API_URL"), "{other}");
    }
}
