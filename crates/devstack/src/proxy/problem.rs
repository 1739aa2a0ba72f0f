//! Error responses of the proxy itself, as problem details (RFC 9457).

/// A status with its reason phrase.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem {
    status: u16,
    title: &'static str,
}

pub(super) const BAD_REQUEST: Problem = Problem { status: 400, title: "Bad Request" };
pub(super) const NOT_FOUND: Problem = Problem { status: 404, title: "Not Found" };
pub(super) const HEAD_TOO_LARGE: Problem =
    Problem { status: 431, title: "Request Header Fields Too Large" };
pub(super) const BAD_GATEWAY: Problem = Problem { status: 502, title: "Bad Gateway" };
/// With `Retry-After`.
pub(super) const UNAVAILABLE: Problem = Problem { status: 503, title: "Service Unavailable" };
pub(super) const TIMEOUT: Problem = Problem { status: 504, title: "Gateway Timeout" };

impl Problem {
    /// The whole response. After it, the connection stays open or is closed.
    pub(super) fn response(self, detail: &str, closes: bool) -> String {
        let Self { status, title } = self;
        let body = serde_json::json!({
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": detail,
        })
        .to_string();
        let retry = if status == UNAVAILABLE.status { "retry-after: 1\r\n" } else { "" };
        let close = if closes { "connection: close\r\n" } else { "" };
        format!(
            "HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\n{retry}{close}\r\n{body}",
            body.len()
        )
    }
}
