//! Messages between clients, the proxy of the development stack, and replicas.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use axum::http::{Request, Response, Uri};
use devstack::proxy::{
    body::Body,
    head::{parse_request, parse_response},
};
use futures::FutureExt;
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};

use super::choice;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Headers of a single connection (RFC 9110, 7.6.1). A list of its own: a header that the proxy's list
/// loses must be seen.
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
/// Headers of a message that hyper reads.
const MOST_HEADERS: usize = 100;

/// The lines of a head, each with the name of its header. The first line has an empty name.
fn lines(head: &[u8]) -> Vec<(String, &[u8])> {
    let head = head.strip_suffix(b"\r\n").unwrap();
    let mut lines: Vec<_> = head.split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.pop(), Some(&[][..]));
    let mut named = Vec::new();
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap();
        assert!(!line.is_empty() && !line.contains(&b'\r'), "{}", line.escape_ascii());
        let colon = line.iter().position(|byte| *byte == b':').filter(|_| !named.is_empty());
        let name = String::from_utf8_lossy(&line[..colon.unwrap_or(0)]).to_ascii_lowercase();
        named.push((name, line));
    }
    assert!(named.iter().skip(1).all(|(name, _)| !name.is_empty()), "{named:?}");
    assert!(named.iter().all(|(name, _)| !HOP_BY_HOP.contains(&name.as_str())), "{named:?}");
    named
}

/// A body ends at the same place however its bytes arrive.
fn consume(body: Body, bytes: &[u8], at: usize) -> Option<(Body, usize)> {
    let mut whole = body;
    let used = whole.consume(bytes);
    let mut pieces = body;
    let (first, second) = bytes.split_at(at.min(bytes.len()));
    let in_pieces = pieces.consume(first).and_then(|used| {
        if used < first.len() { Ok(used) } else { Ok(used + pieces.consume(second)?) }
    });
    assert_eq!(used.is_ok(), in_pieces.is_ok());
    let (used, in_pieces) = (used.ok()?, in_pieces.ok()?);
    assert_eq!((whole, used), (pieces, in_pieces));
    assert!(used <= bytes.len() && (used == bytes.len() || whole.is_done()));
    Some((whole, used))
}

/// The message of a client. Responses to it are dropped.
struct Memory<'a>(&'a [u8]);

impl Read for Memory<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The requests that a replica finds in these bytes: the path, and the length of the body if it is
/// complete.
fn received(bytes: &[u8]) -> Vec<(String, Option<usize>)> {
    let requests = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let requests = Rc::clone(&requests);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await;
            let length = body.ok().map(|body| body.to_bytes().len());
            requests.borrow_mut().push((path, length));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut connection = http1::Builder::new().serve_connection(Memory(bytes), service);
    // hyper yields now and then. Malformed requests end the connection with an error.
    let ended = (0..100).find_map(|_| (&mut connection).now_or_never());
    assert!(ended.is_some(), "the connection does not end");
    requests.take()
}

/// A forwarded request has one form: no header of the connection, one chain of clients with the
/// real one at its end, and a body that ends where the replica takes it to end.
pub(super) fn proxy_requests(input: &[u8]) {
    let Some((choice, bytes)) = choice(input) else { return };
    let Ok(Some(head)) = parse_request(bytes, CLIENT) else { return };
    assert!(head.length <= bytes.len());
    let (own, rest) = bytes.split_at(head.length);
    assert_eq!(parse_request(own, CLIENT).as_ref(), Ok(&Some(parse(own))));
    assert!(!matches!(parse_request(&own[..own.len() - 1], CLIENT), Ok(Some(_))));

    let named = lines(&head.forwarded);
    let chains: Vec<_> = named.iter().filter(|(name, _)| name == FORWARDED_FOR).collect();
    assert!(matches!(chains[..], [(_, chain)] if chain.ends_with(b"127.0.0.1")), "{chains:?}");
    if named.len() > MOST_HEADERS {
        return;
    }
    let again = parse(&head.forwarded);
    assert_eq!((again.length, &again.path), (head.forwarded.len(), &head.path));
    assert_eq!((again.is_head, again.body), (head.is_head, head.body));
    assert!(head.closes || !again.closes);
    let first = own.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty());
    let target = first.unwrap().split(|byte| *byte == b' ').nth(1).unwrap();
    if let Some(uri) = Uri::try_from(target).ok().filter(|uri| uri.authority().is_none()) {
        assert_eq!(uri.path(), head.path);
    }

    let Some((body, used)) = consume(head.body, rest, choice) else { return };
    let message = [&head.forwarded, &rest[..used]].concat();
    let requests = received(&message);
    assert!(requests.len() <= 1, "{requests:?}");
    for (path, length) in requests {
        assert_eq!(path, head.path);
        assert!(length.is_none() || body.is_done(), "{length:?} {body:?}");
        if let Body::Length(expected) = head.body {
            assert_eq!(length.is_some(), body.is_done());
            assert!(length.is_none_or(|length| u64::try_from(length) == Ok(expected)));
        }
    }
}

fn parse(bytes: &[u8]) -> devstack::proxy::head::RequestHead {
    parse_request(bytes, CLIENT).unwrap().unwrap()
}

/// A forwarded response has the same status and body as the replica's, and no header of its
/// connection.
pub(super) fn proxy_responses(input: &[u8]) {
    let Some((choice, bytes)) = choice(input) else { return };
    let to_head = choice % 2 == 1;
    let Ok(Some(head)) = parse_response(bytes, to_head) else { return };
    assert!(head.length <= bytes.len());
    let (own, rest) = bytes.split_at(head.length);
    assert!(!matches!(parse_response(&own[..own.len() - 1], to_head), Ok(Some(_))));
    let forwarded = [&head.forwarded[..], b"\r\n"].concat();
    lines(&forwarded);
    let again = parse_response(&forwarded, to_head).unwrap().unwrap();
    assert_eq!((again.length, again.status), (forwarded.len(), head.status));
    assert_eq!(again.body, head.body);
    assert!(head.closes || head.body != Body::UntilClose);
    assert!(!to_head || head.body.is_done());
    consume(head.body, rest, choice);
}
