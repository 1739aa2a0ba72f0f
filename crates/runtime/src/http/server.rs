//! Serves HTTP with a graceful stop: requests in process are finished.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Method, Response, Uri, Version, header::HOST},
    response::IntoResponse,
};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    address::{AddressConfig, Peer},
    address_places::{AddressPlace, AddressPlaces},
    connection::{Connection, ResponseBody},
    listener::{Listener, Listening, raise_and_limit},
    places::Places,
    problem::{
        HEAD_TOO_LARGE, INTERNAL, MALFORMED_REQUEST, METHOD_NOT_ALLOWED, NO_SUCH_PATH, Problem,
        URI_TOO_LONG,
    },
    socket::Socket,
};

/// Maximum bytes of a head, and of the path with its query.
const MAX_HEAD: usize = 16 * 1024;
const MAX_URI: usize = 8 * 1024;
/// What hyper buffers of a head. It rejects a longer one.
const MAX_BUFFERED: usize = 32 * 1024;
const MAX_HTTP2_HEAD: u32 = 32 * 1024;
/// Interval of the pings that find out whether the host of an HTTP/2 client has vanished.
const PING_EVERY: Duration = Duration::from_secs(75);

/// Time for a head that has arrived, on a connection that is closed to make room. The runtime looks
/// for what has arrived before it looks at the time, so this may be short. It bounds how fast silent
/// connections pass through.
const LAST_HEAD: Duration = Duration::from_millis(5);
/// Time for the end of an HTTP/2 connection after its time limit.
const GOODBYE: Duration = Duration::from_millis(100);

/// Adds problem+json for unknown paths, unknown methods and panics.
pub fn with_defaults<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(|uri: Uri| async move {
            NO_SUCH_PATH.because(format!("There is no resource at {}.", uri.path()))
        })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            METHOD_NOT_ALLOWED.because(format!("{} does not support {method}.", uri.path()))
        })
        .layer(CatchPanicLayer::custom(|_| {
            INTERNAL.because("This is a bug; it was logged.").into_response()
        }))
}

/// Serves until `draining` is cancelled and `drain_delay` has passed. Then it
/// closes the listener and the connections without a request, and waits for running
/// requests, for at most `grace`. Returns the remaining part of `grace`. `addresses` limits the
/// connections of each address.
///
/// # Errors
/// If requests still ran after `grace`.
pub async fn serve(
    listening: Listening,
    addresses: Option<&AddressConfig>,
    router: Router,
    draining: CancellationToken,
    drain_delay: Duration,
    grace: Duration,
) -> anyhow::Result<Duration> {
    let drained = async {
        draining.cancelled().await;
        tokio::time::sleep(drain_delay).await;
    };
    let most = raise_and_limit();
    let addresses = addresses.and_then(|config| AddressPlaces::new(config, most));
    let listener = Listener::new(listening, "API").limited(addresses);
    serve_until(drained, listener, router, Places::new(most), grace).await
}

/// Serves at most `places` connections until `drained`.
///
/// # Errors
/// If requests still ran after `grace`.
pub(super) async fn serve_until(
    drained: impl Future<Output = ()>,
    mut listener: Listener,
    router: Router,
    mut places: Places,
    grace: Duration,
) -> anyhow::Result<Duration> {
    let mut server = Builder::new(TokioExecutor::new());
    // The time limits are in `Connection`.
    server.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_BUFFERED);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PING_EVERY))
        .max_header_list_size(MAX_HTTP2_HEAD);
    let server = Arc::new(server);
    let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
    tokio::pin!(drained);
    loop {
        let accepted = tokio::select! {
            () = &mut drained => break,
            accepted = accept(&mut listener, &mut places) => accepted,
        };
        let (server, router, stop) = (Arc::clone(&server), router.clone(), stop.clone());
        connections.spawn(async move {
            run(&server, router, accepted, &stop).await;
        });
    }
    drop(listener);
    stop.cancel();
    connections.close();
    let closed = Instant::now();
    tokio::time::timeout(grace, connections.wait())
        .await
        .map_err(|_| anyhow::anyhow!("requests still ran {grace:?} after the listener closed"))?;
    Ok(grace.saturating_sub(closed.elapsed()))
}

/// A socket, its other end, its state and its places.
type Accepted = (TcpStream, IpAddr, Arc<Connection>, (OwnedSemaphorePermit, AddressPlace));

/// Waits for the next connection, and makes room for it.
async fn accept(listener: &mut Listener, places: &mut Places) -> Accepted {
    let mut socket = None;
    loop {
        tokio::select! {
            accepted = listener.next() => socket = Some(accepted),
            () = places.due() => places.make_room(),
        }
        if let Some((socket, peer, of_address)) = socket {
            let (connection, place) = places.take().await;
            return (socket, peer, connection, (place, of_address));
        }
    }
}

/// Runs one connection to its end: closed by its client, by one of its time limits, to make
/// room, or by the stop.
async fn run(
    server: &Builder<TokioExecutor>,
    router: Router,
    (socket, peer, connection, places): Accepted,
    stop: &CancellationToken,
) {
    let requests = Arc::clone(&connection);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        answer(router.clone(), Arc::clone(&requests), request)
    });
    let io = TokioIo::new(Socket::new(socket, Arc::clone(&connection)));
    let serving = server.serve_connection(io, service);
    let check = tokio::time::sleep(Duration::ZERO);
    let (stopping, closing) = (stop.cancelled(), connection.closing());
    tokio::pin!(serving, check, stopping, closing);
    let (mut stopped, mut closed) = (None, false);
    loop {
        tokio::select! {
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
            () = &mut closing, if !closed => {
                // Its head may have arrived, and not been read.
                let ended = tokio::time::timeout(LAST_HEAD, &mut serving).await.is_ok();
                let may_end = !connection.has_request() || connection.stuck_since().is_some();
                if ended || may_end {
                    break;
                }
                closed = true;
                serving.as_mut().graceful_shutdown();
            }
            () = &mut stopping, if stopped.is_none() => {
                stopped = Some(Instant::now());
                serving.as_mut().graceful_shutdown();
                check.as_mut().reset(Instant::now());
            }
            () = &mut check => match connection.next_check(stopped) {
                Some(next) => check.as_mut().reset(next),
                None if stopped.is_none() => {
                    // HTTP/2 clients are told that the connection ends.
                    serving.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(GOODBYE, &mut serving).await;
                    break;
                }
                None => break,
            },
        }
    }
    connection.ended();
    drop(places);
}

/// Answers one request.
async fn answer(
    router: TowerToHyperService<Router>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let in_process = connection.request(request.version());
    let mut response = match check_head(&request) {
        Ok(()) => router.call(request.map(Body::new)).await?,
        Err(problem) => problem.into_response(),
    };
    let unread = response.extensions_mut().remove();
    Ok(response.map(|body| in_process.respond(body, unread)))
}

/// Checks the head of a request: its lengths, and that it has one `Host`.
///
/// # Errors
/// `uri-too-long`, `head-too-large` or `malformed-request`
pub fn check_head<B>(request: &Request<B>) -> Result<(), Problem> {
    let (uri, headers) = (request.uri(), request.headers());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    if path > MAX_URI {
        let detail = format!("The path and query must have at most {MAX_URI} bytes.");
        return Err(URI_TOO_LONG.because(detail));
    }
    let length = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        name.as_str().len().saturating_add(value.len()).saturating_add(4)
    };
    if headers.iter().map(length).sum::<usize>() > MAX_HEAD {
        let detail = format!("The headers must have at most {MAX_HEAD} bytes in all.");
        return Err(HEAD_TOO_LARGE.because(detail));
    }
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        let detail = format!("The request has {hosts} Host headers. Send one.");
        return Err(MALFORMED_REQUEST.because(detail).at_header("Host"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
    };

    use super::*;
    use crate::http::listener::listen;

    /// Bytes of a response: more than the kernel buffers.
    const LARGE: usize = 16 << 20;

    #[tokio::test]
    async fn a_slow_client_gets_its_whole_response_though_another_one_needs_the_place() {
        let listening = listen("x", ([127, 0, 0, 1], 0).into()).unwrap();
        let address = listening.local_addr();
        let router = Router::new().route("/", get(|| async { vec![b'x'; LARGE] }));
        let stop = CancellationToken::new();
        let listener = Listener::new(listening, "test");
        let drained = stop.clone().cancelled_owned();
        let grace = Duration::from_secs(1);
        let serving = tokio::spawn(serve_until(drained, listener, router, Places::new(1), grace));
        let ask = async || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut client = socket.connect(address).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            client
        };
        let mut slow = ask().await;
        slow.read_exact(&mut [0; 1024]).await.unwrap();
        let mut next = ask().await;
        // Several attempts to make room.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() + 1024 > LARGE, "{} bytes", rest.len());
        next.read_exact(&mut [0; 1024]).await.unwrap();
        stop.cancel();
        drop(next);
        serving.await.unwrap().unwrap();
    }
    #[tokio::test]
    async fn an_http2_connection_whose_response_is_read_makes_room_at_once() {
        let listening = listen("x", ([127, 0, 0, 1], 0).into()).unwrap();
        let address = listening.local_addr();
        let router = Router::new().route("/", get(|| async { vec![b'x'; 1 << 20] }));
        let stop = CancellationToken::new();
        let listener = Listener::new(listening, "test");
        let drained = stop.clone().cancelled_owned();
        let grace = Duration::from_secs(1);
        let serving = tokio::spawn(serve_until(drained, listener, router, Places::new(1), grace));
        let socket = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket);
        let (mut sender, connection) = handshake.await.unwrap();
        let ending = tokio::spawn(connection);
        let request = Request::get(format!("http://{address}/")).body(Body::empty()).unwrap();
        let body = sender.send_request(request).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 1 << 20);
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut head = [0; 1024];
        let answer = tokio::time::timeout(Duration::from_secs(5), next.read_exact(&mut head));
        answer.await.unwrap().unwrap();
        let _closed = ending.await.unwrap();
        drop((sender, next));
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
