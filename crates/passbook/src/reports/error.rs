//! Failures of requests to the API: what happened, and what to do.

use std::fmt;

use client::{Cause, Problem};
use http::StatusCode;

use crate::{error_chain, output};

/// A request failed. It is shown to a person, with what to do.
#[derive(Debug)]
pub(super) struct ApiError(client::Error);

impl From<client::Error> for ApiError {
    fn from(error: client::Error) -> Self {
        Self(error)
    }
}

impl ApiError {
    /// Whether the same request can succeed later.
    pub(super) const fn is_transient(&self) -> bool {
        self.0.may_retry()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0.cause() {
            Cause::Problem(problem) => describe(problem),
            Cause::Unreachable(cause) => format!(
                "no answer: {}. Check the address (PASSBOOK_API_URL) and whether the API runs",
                error_chain::describe_cause(&**cause)
            ),
            Cause::Timeout(limit) => format!("no answer within {} s. Try again", limit.as_secs()),
            Cause::NoAnswer(cause) => {
                let cause = error_chain::describe_cause(&**cause);
                format!("the response was interrupted: {cause}. Try again")
            }
            Cause::BrokenAnswer(reason) | Cause::UnexpectedAnswer(reason) => unexpected(reason),
            Cause::InvalidRequest(reason) => reason.clone(),
            _ => self.0.to_string(),
        };
        f.write_str(&output::escape(&text))
    }
}

impl std::error::Error for ApiError {}

fn unexpected(reason: &str) -> String {
    format!(
        "the response is not one of Passbook's API: {reason}. Check the address (PASSBOOK_API_URL)"
    )
}

fn describe(problem: &Problem) -> String {
    let Problem { status, title, detail, field, .. } = problem;
    let mut text = match title.as_str() {
        "" if status.is_server_error() => format!("{status}: The API failed."),
        "" => return unexpected(&format!("status {status}")),
        title => format!("{status}: {title} {detail}").trim_end().to_owned(),
    };
    if let Some(field) = field {
        text.push_str(&format!(" (field: {field})"));
    }
    if let Some(advice) = advice(*status) {
        text.push_str(&format!(" {advice}"));
    }
    text
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

#[cfg(test)]
mod tests {
    use client::Answer;
    use http::HeaderMap;

    use super::*;

    fn error(status: StatusCode, body: &'static str) -> ApiError {
        let answer = Answer { status, headers: HeaderMap::new(), body: body.into() };
        answer.success().unwrap_err().into()
    }

    #[test]
    fn a_problem_is_shown_with_its_detail_and_what_to_do() {
        let body = r#"{"type":"/problems/invalid-field","title":"A field is invalid.",
            "detail":"to is in the future.","field":"to","status":422}"#;
        let invalid = error(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert!(!invalid.is_transient());
        assert_eq!(
            invalid.to_string(),
            "422 Unprocessable Entity: A field is invalid. to is in the future. (field: to)"
        );
        let error = error(StatusCode::UNAUTHORIZED, r#"{"title":"No token."}"#);
        assert!(error.to_string().ends_with("Set PASSBOOK_TOKEN to a valid token"), "{error}");
    }

    #[test]
    fn a_gateway_without_a_problem_is_transient_and_another_server_is_not() {
        let gateway = error(StatusCode::BAD_GATEWAY, "<html>");
        assert!(gateway.is_transient(), "{gateway}");
        assert_eq!(gateway.to_string(), "502 Bad Gateway: The API failed. Try again later");
        let other = error(StatusCode::NOT_FOUND, "<html>");
        assert!(other.to_string().contains("PASSBOOK_API_URL"), "{other}");
    }
}
