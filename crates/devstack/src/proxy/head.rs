//! Heads of messages: parsed, and written again for the other connection (RFC
//! 9110, section 7.6.1).

use std::{io::Write, net::IpAddr};

use httparse::{EMPTY_HEADER, Header, Status};

use super::body::{Body, FIRST_CHUNK};

/// Maximum number of headers.
const HEADERS: usize = 100;
/// Maximum size of a head, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Headers of a single connection, even if `Connection` does not name them.
/// `Transfer-Encoding` is kept, because bodies keep their form.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
];
/// These are kept, even if `Connection` names them.
const KEPT: [&str; 3] = ["content-length", "transfer-encoding", "host"];
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Why a head is rejected.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Its bytes in the connection.
    pub length: usize,
    /// The path without the query.
    pub path: String,
    /// The method is HEAD, so that the response has no body.
    pub is_head: bool,
    pub body: Body,
    /// The client closes the connection after the response.
    pub closes: bool,
    /// The head for the replica.
    pub forwarded: Vec<u8>,
}

/// Parses the head of a request. `None`: it is not complete yet.
///
/// # Errors
/// It is malformed, or the length of its body is ambiguous.
pub fn parse_request(bytes: &[u8], client: IpAddr) -> Result<Option<RequestHead>, Malformed> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).map_err(|_| Malformed("The request is malformed."))?;
    let Status::Complete(length) = parsed else { return Ok(None) };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if method == "CONNECT" {
        return Err(Malformed("This is not a proxy for CONNECT."));
    }
    let target = origin_form(target);
    let minor = request.version.unwrap_or_default();
    let headers = &*request.headers;
    let body = match framing(headers)? {
        Some(body) => body,
        None => Body::Length(0),
    };
    let mut forwarded = Vec::with_capacity(length + 64);
    write(&mut forwarded, format_args!("{method} {target} HTTP/1.{minor}\r\n"));
    copy(headers, &mut forwarded, |name| name.eq_ignore_ascii_case(FORWARDED_FOR));
    forwarded.extend_from_slice(b"x-forwarded-for: ");
    for header in headers.iter().filter(|header| header.name.eq_ignore_ascii_case(FORWARDED_FOR)) {
        forwarded.extend_from_slice(header.value);
        forwarded.extend_from_slice(b", ");
    }
    write(&mut forwarded, format_args!("{client}\r\n\r\n"));
    let path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    let closes = closes(minor, headers);
    Ok(Some(RequestHead { length, path, is_head: method == "HEAD", body, closes, forwarded }))
}

#[derive(Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its bytes in the connection.
    pub length: usize,
    pub status: u16,
    pub body: Body,
    /// The replica closes the connection after the response.
    pub closes: bool,
    /// The head for the client, without the empty line at its end.
    pub forwarded: Vec<u8>,
}

/// Parses the head of the response to a request. `None`: it is not complete
/// yet.
///
/// # Errors
/// As [`parse_request`].
pub fn parse_response(bytes: &[u8], to_head: bool) -> Result<Option<ResponseHead>, Malformed> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|_| Malformed("The response is malformed."))?;
    let Status::Complete(length) = parsed else { return Ok(None) };
    let (status, minor) = (response.code.unwrap_or_default(), response.version.unwrap_or_default());
    if status < 100 {
        return Err(Malformed("The status of the response is malformed."));
    }
    let headers = &*response.headers;
    let has_no_body = to_head || matches!(status, 100..200 | 204 | 304);
    let body = match framing(headers)? {
        _ if has_no_body => Body::Length(0),
        Some(body) => body,
        None => Body::UntilClose,
    };
    let mut forwarded = Vec::with_capacity(length + 64);
    let reason = response.reason.unwrap_or_default();
    write(&mut forwarded, format_args!("HTTP/1.{minor} {status} {reason}\r\n"));
    copy(headers, &mut forwarded, |_| false);
    let closes = closes(minor, headers) || body == Body::UntilClose;
    Ok(Some(ResponseHead { length, status, body, closes, forwarded }))
}

fn write(buffer: &mut Vec<u8>, part: std::fmt::Arguments<'_>) {
    // A write into memory can't fail.
    let _ = buffer.write_fmt(part);
}

/// The path and query of an absolute URL, or the target as it is.
fn origin_form(target: &str) -> &str {
    if target.starts_with('/') || target == "*" {
        return target;
    }
    let authority = target.split_once("://").map(|(_, rest)| rest);
    authority.and_then(|rest| rest.find('/').and_then(|at| rest.get(at..))).unwrap_or("/")
}

/// The form of the body, if the headers give one. Ambiguous forms are rejected:
/// the replica could take a part of the body for the next request.
fn framing(headers: &[Header<'_>]) -> Result<Option<Body>, Malformed> {
    let ambiguous = Malformed("The length of the body is ambiguous.");
    let mut body = None;
    for header in headers {
        let found = if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            // A number with a sign is a number for `parse`, but not in HTTP.
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let length = text.parse().ok().filter(|_| is_number);
            Body::Length(length.ok_or(Malformed("Content-Length is not a number."))?)
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed("Transfer-Encoding is not chunked."));
            }
            FIRST_CHUNK
        } else {
            continue;
        };
        if body.is_some_and(|known| known != found || found == FIRST_CHUNK) {
            return Err(ambiguous);
        }
        body = Some(found);
    }
    Ok(body)
}

fn closes(minor: u8, headers: &[Header<'_>]) -> bool {
    minor == 0 || options(headers).any(|option| option.eq_ignore_ascii_case("close"))
}

/// The options of `Connection`.
fn options<'a>(headers: &'a [Header<'_>]) -> impl Iterator<Item = &'a str> {
    let lines = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
    let lines = lines.filter_map(|header| std::str::from_utf8(header.value).ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Copies all headers except those of this connection, and the skipped ones.
fn copy(headers: &[Header<'_>], to: &mut Vec<u8>, is_skipped: impl Fn(&str) -> bool) {
    for Header { name, value } in headers {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let is_named = || options(headers).any(is) && !KEPT.into_iter().any(is);
        if HOP_BY_HOP.into_iter().any(is) || is_skipped(name) || is_named() {
            continue;
        }
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            to.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn request(text: &str) -> Result<Option<RequestHead>, Malformed> {
        parse_request(text.as_bytes(), CLIENT)
    }

    fn forwarded(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn headers_of_one_connection_are_not_forwarded() {
        let head = request(
            "POST /v1/a?b=c HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Own\r\n\
             connection: X-Other, Content-Length\r\nX-Own: 1\r\nx-other: 2\r\n\
             Keep-Alive: timeout=5\r\nTE: trailers\r\nUpgrade: h2c\r\n\
             Proxy-Authorization: Basic\r\nIdempotency-Key: k\r\nContent-Length: 3\r\n\r\nabc",
        );
        let head = head.unwrap().unwrap();
        assert_eq!(
            forwarded(&head.forwarded),
            "POST /v1/a?b=c HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k\r\nContent-Length: 3\r\n\
             x-forwarded-for: 127.0.0.1\r\n\r\n"
        );
        let RequestHead { path, is_head, body, closes, .. } = head;
        assert_eq!(
            (path.as_str(), is_head, body, closes),
            ("/v1/a", false, Body::Length(3), false)
        );
    }

    #[test]
    fn the_client_is_appended_to_the_earlier_addresses() {
        let head = request(
            "GET http://h/x HTTP/1.0\r\nX-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2\r\n\r\n",
        );
        let head = head.unwrap().unwrap();
        assert_eq!(
            forwarded(&head.forwarded),
            "GET /x HTTP/1.0\r\nx-forwarded-for: 10.0.0.1, 10.0.0.2, 127.0.0.1\r\n\r\n"
        );
        assert!(head.closes);
    }

    #[test]
    fn a_request_is_rejected_if_the_end_of_its_body_is_ambiguous() {
        for headers in [
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Content-Length: +3",
            "Content-Length: ",
        ] {
            let head = request(&format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n"));
            assert!(head.is_err(), "{headers}: {head:?}");
        }
        assert_eq!(request("GET / HTTP/1.1\r\nHost"), Ok(None));
        assert!(request("CONNECT h:1 HTTP/1.1\r\n\r\n").is_err());
        assert!(request("\u{16}\u{3}\u{1}").is_err());
    }

    #[test]
    fn the_body_of_a_response_depends_on_its_status_and_request() {
        let parse = |text: &str, to_head| {
            let head = parse_response(text.as_bytes(), to_head).unwrap().unwrap();
            (head.body, head.closes)
        };
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(parse(ok, false), (Body::Length(3), false));
        assert_eq!(parse(ok, true), (Body::Length(0), false));
        assert_eq!(parse("HTTP/1.1 304 Not Modified\r\n\r\n", false), (Body::Length(0), false));
        assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\n", false), (Body::UntilClose, true));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        assert_eq!(parse(chunked, false), (FIRST_CHUNK, true));
        let head = parse_response(chunked.as_bytes(), false).unwrap().unwrap();
        assert_eq!(forwarded(&head.forwarded), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n");
        assert!(parse_response(b"HTTP/1.1 004 OK\r\n\r\n", false).is_err());
    }
}
