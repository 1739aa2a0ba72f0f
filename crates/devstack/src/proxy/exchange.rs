//! One request and its response, between a client and a replica.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    body::Body,
    connection::{Connection, invalid, receive},
    head::{MAX_HEAD, Malformed, RequestHead, ResponseHead, parse_request, parse_response},
    limits::IDLE,
    problem::{BAD_GATEWAY, BAD_REQUEST, HEAD_TOO_LARGE, NOT_FOUND, Problem, TIMEOUT, UNAVAILABLE},
    routes::Routes,
    upstream::Upstream,
};

/// Longer than any `Prefer: wait=N` of a client.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(45);

/// What follows a response on the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Close,
}

/// The exchanges of one client connection.
pub(super) struct Exchange {
    routes: Arc<Routes>,
    address: IpAddr,
}

/// Why a replica's response can't be forwarded.
enum Failure {
    /// Nothing of the response was forwarded. The client gets an error response.
    Before(Problem, &'static str, io::Error),
    /// A part was forwarded, or the client has gone. Both connections end.
    Within(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Within(error)
    }
}

impl Exchange {
    pub(super) fn new(routes: Arc<Routes>, address: IpAddr) -> Self {
        Self { routes, address }
    }

    /// Serves a request, of which some bytes were received. The rest of its head must arrive within
    /// `head_limit`.
    ///
    /// # Errors
    /// The client's connection can't be used any more.
    pub(super) async fn serve(
        &mut self,
        client: &mut Connection,
        head_limit: Duration,
    ) -> io::Result<Next> {
        match timeout(head_limit, self.read_head(client)).await?? {
            Ok(mut request) => self.forward(client, &mut request).await,
            Err((problem, detail)) => respond(client, problem, detail, true).await,
        }
    }

    async fn read_head(
        &self,
        client: &mut Connection,
    ) -> io::Result<Result<RequestHead, (Problem, &'static str)>> {
        loop {
            match parse_request(&client.received, self.address) {
                Ok(Some(head)) => {
                    client.received.drain(..head.length);
                    return Ok(Ok(head));
                }
                Ok(None) if client.received.len() < MAX_HEAD => {}
                Ok(None) => {
                    let detail = "The headers of the request are too large.";
                    return Ok(Err((HEAD_TOO_LARGE, detail)));
                }
                Err(Malformed(reason)) => return Ok(Err((BAD_REQUEST, reason))),
            }
            if receive(&mut client.stream, &mut client.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn forward(
        &self,
        client: &mut Connection,
        request: &mut RequestHead,
    ) -> io::Result<Next> {
        let Some(pool) = self.routes.pool(&request.path) else {
            return reject(client, request, NOT_FOUND, "No service has this path.").await;
        };
        let has_body = !request.body.is_done();
        let used = match request.body.consume(&client.received) {
            Ok(used) => used,
            Err(error) => return respond(client, BAD_REQUEST, &error.to_string(), true).await,
        };
        request.forwarded.extend(client.received.drain(..used));
        for upstream in pool.in_turn() {
            // Nothing was sent if this fails, so the next replica can receive the whole request.
            let mut replica = match send(upstream, &request.forwarded).await {
                Ok(replica) => replica,
                Err(error) => {
                    upstream.set_ready(false);
                    info!("connecting to {} failed: {error}", upstream.name);
                    continue;
                }
            };
            return match relay(client, &mut replica, request, has_body).await {
                Ok((next, is_reusable)) => {
                    if is_reusable {
                        upstream.put_back(replica);
                    }
                    Ok(next)
                }
                Err(Failure::Before(problem, detail, error)) => {
                    warn!("{} failed during a request: {error}", upstream.name);
                    reject(client, request, problem, detail).await
                }
                Err(Failure::Within(error)) => Err(error),
            };
        }
        let service = pool.service;
        let detail =
            format!("No replica of the {service} can be reached. Nothing was carried out.");
        reject(client, request, UNAVAILABLE, &detail).await
    }
}

/// Sends the first bytes of a request to a replica.
///
/// # Errors
/// The replica can't be reached. It received nothing.
async fn send(upstream: &Upstream, bytes: &[u8]) -> io::Result<Connection> {
    let mut replica = timeout(RESPONSE_TIMEOUT, upstream.connection()).await??;
    let sent = replica.stream.write(bytes).await?;
    // If the rest fails, there is no response either.
    let rest = bytes.get(sent..).unwrap_or_default();
    let _ = replica.stream.write_all(rest).await;
    Ok(replica)
}

/// Forwards the rest of the request's body and the response, at the same time.
/// Returns whether the replica's connection can be used again.
///
/// A replica that rejects a request may not have read all of its body. It closes the
/// connection then, and says so in no header, so the next request would be lost on it.
async fn relay(
    client: &mut Connection,
    replica: &mut Connection,
    request: &mut RequestHead,
    has_body: bool,
) -> Result<(Next, bool), Failure> {
    let RequestHead { is_head, body, closes, .. } = request;
    let (mut from_client, mut to_client) = client.stream.split();
    let (mut from_replica, mut to_replica) = replica.stream.split();
    let is_complete = AtomicBool::new(body.is_done());
    let forward_body =
        forward_body(&mut from_client, &mut client.received, &mut to_replica, body, &is_complete);
    let forward_response = async {
        let read =
            read_response(&mut from_replica, &mut replica.received, &mut to_client, *is_head);
        let failed = "The replica failed during the request. It may have carried out the \
                      request. Send it again with the same Idempotency-Key.";
        let late = "The replica does not respond. It may have carried out the request. Send it \
                    again with the same Idempotency-Key.";
        let mut head = match timeout(RESPONSE_TIMEOUT, read).await {
            Ok(Ok(head)) => head,
            Ok(Err(error)) => return Err(Failure::Before(BAD_GATEWAY, failed, error)),
            Err(elapsed) => return Err(Failure::Before(TIMEOUT, late, elapsed.into())),
        };
        // The rest of an unread body would be taken for the next request.
        let is_early = !is_complete.load(Ordering::Relaxed);
        let closes = *closes || is_early || head.body == Body::UntilClose;
        write_response(&mut head, closes, &mut from_replica, &mut replica.received, &mut to_client)
            .await?;
        Ok((closes, head.closes || (has_body && head.status >= 400)))
    };
    let (client_closes, replica_closes) = tokio::select! {
        forwarded = forward_response => forwarded?,
        error = forward_body => return Err(error.into()),
    };
    let is_complete = body.is_done();
    let next = if client_closes || !is_complete { Next::Close } else { Next::Continue };
    let is_reusable = !replica_closes && is_complete && replica.received.is_empty();
    Ok((next, is_reusable))
}

/// Forwards the rest of a request's body, then watches the client's connection.
/// Returns only if the client has gone, or its body is malformed.
async fn forward_body(
    from: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
    to: &mut (impl AsyncWrite + Unpin),
    body: &mut Body,
    is_complete: &AtomicBool,
) -> io::Error {
    loop {
        if body.is_done() && received.len() >= MAX_HEAD {
            return std::future::pending().await;
        }
        match receive(from, received).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) if body.is_done() => continue,
            Ok(_) => {}
            Err(error) => return error,
        }
        let used = match body.consume(received) {
            Ok(used) => used,
            Err(error) => return error,
        };
        is_complete.store(body.is_done(), Ordering::Relaxed);
        let sent = to.write_all(received.get(..used).unwrap_or_default()).await;
        received.drain(..used);
        if sent.is_err() {
            // The replica may have sent a response before it closed the connection.
            return std::future::pending().await;
        }
    }
}

/// Reads the head of the response. Interim responses are forwarded at once.
pub(super) async fn read_response(
    from: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
    to: &mut (impl AsyncWrite + Unpin),
    to_head: bool,
) -> io::Result<ResponseHead> {
    loop {
        let parsed = parse_response(received, to_head);
        match parsed.map_err(|Malformed(reason)| invalid(reason))? {
            Some(head) if (100..200).contains(&head.status) => {
                to.write_all(received.get(..head.length).unwrap_or_default()).await?;
                received.drain(..head.length);
                continue;
            }
            Some(head) => return Ok(head),
            None if received.len() >= MAX_HEAD => {
                return Err(invalid("the headers of the response are too large"));
            }
            None => {}
        }
        if receive(from, received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Forwards the response to the client.
async fn write_response(
    head: &mut ResponseHead,
    closes: bool,
    from: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut bytes = std::mem::take(&mut head.forwarded);
    bytes.extend_from_slice(if closes { b"connection: close\r\n\r\n" } else { b"\r\n" });
    received.drain(..head.length);
    loop {
        let used = head.body.consume(received)?;
        bytes.extend(received.drain(..used));
        timeout(IDLE, to.write_all(&bytes)).await??;
        if head.body.is_done() {
            return Ok(());
        }
        bytes.clear();
        if receive(from, received).await? == 0 {
            let is_end = head.body == Body::UntilClose;
            return if is_end { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Responds to a request that is not forwarded, or has failed.
async fn reject(
    client: &mut Connection,
    request: &RequestHead,
    problem: Problem,
    detail: &str,
) -> io::Result<Next> {
    respond(client, problem, detail, request.closes || !request.body.is_done()).await
}

async fn respond(
    client: &mut Connection,
    problem: Problem,
    detail: &str,
    closes: bool,
) -> io::Result<Next> {
    client.stream.write_all(problem.response(detail, closes).as_bytes()).await?;
    Ok(if closes { Next::Close } else { Next::Continue })
}
