//! The error responses that hyper sends before a request reaches the service: it can't parse
//! the head. They have no body, and hyper has no hook for them. So they are recognized when
//! they are sent, and a problem is put in.
//!
//! No other response has such a status and no body: those of the services are problems.

use super::problem::{HEAD_TOO_LARGE, MALFORMED_REQUEST, Problem, URI_TOO_LONG};

/// Whether these bytes are such a response.
pub(super) fn is_empty_error(bytes: &[u8]) -> bool {
    problem(bytes).is_some() && has_no_body(bytes)
}

/// The response with a body, if it is one of hyper's.
pub(super) fn with_body(bytes: &[u8]) -> Option<Vec<u8>> {
    let problem = problem(bytes).filter(|_| has_no_body(bytes))?;
    let body = serde_json::to_string(&problem).ok()?;
    let response = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        problem.status(),
        body.len()
    );
    Some(response.into_bytes())
}

fn problem(bytes: &[u8]) -> Option<Problem> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    Some(match rest.get(..3)? {
        b"400" => MALFORMED_REQUEST.because("The request's head can't be parsed."),
        b"414" => URI_TOO_LONG.because("Send a shorter path and query."),
        b"431" => HEAD_TOO_LARGE.because("Send fewer and shorter headers."),
        _ => return None,
    })
}

fn has_no_body(bytes: &[u8]) -> bool {
    const NO_BODY: &[u8] = b"\r\ncontent-length: 0\r\n";
    bytes.ends_with(b"\r\n\r\n") && bytes.windows(NO_BODY.len()).any(|part| part == NO_BODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_without_a_body_gets_one() {
        for status in ["400 Bad Request", "414 URI Too Long", "431 Request Header Fields Too Large"]
        {
            let empty =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let response = String::from_utf8(with_body(empty.as_bytes()).unwrap()).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["status"].to_string(), status[..3]);
        }
        for other in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "",
        ] {
            assert_eq!(with_body(other.as_bytes()), None, "{other}");
        }
    }
}
