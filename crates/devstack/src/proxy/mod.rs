//! The proxy: one HTTP address in front of the replicas of all services, like
//! an Ingress and its Services in Kubernetes. It picks the service by the path
//! and forwards requests to the service's ready replicas in turn.
//!
//! A request goes to a second replica only if the first connection failed and
//! nothing was sent. The proxy never repeats a request that a replica may have
//! received. The client repeats it, with the same idempotency key.

mod headers;
mod retry_body;
mod routes;
mod upstream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, Uri, Version, header, uri::PathAndQuery},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use retry_body::RetryBody;
pub(crate) use routes::Pool;
use routes::Routes;
pub(crate) use upstream::Upstream;

/// Shorter than the idle timeout of the replicas, so that the proxy closes an
/// idle connection first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than any `Prefer: wait=N` of a client.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(45);
/// How long open connections may continue after the proxy is stopped.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
    /// The readiness checks. Aborted on drop.
    _readiness: JoinSet<()>,
}

struct Shared {
    routes: Routes,
    client: Client<HttpConnector, RetryBody>,
}

impl Proxy {
    /// Serves on `listener` until it is stopped. Replicas count as ready until
    /// the first check.
    pub(crate) fn start(listener: TcpListener, pools: Vec<Pool>, http: &reqwest::Client) -> Self {
        let routes = Routes::new(pools);
        let mut readiness = JoinSet::new();
        for upstream in routes.upstreams() {
            readiness.spawn(Arc::clone(upstream).watch_readiness(http.clone()));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        let service = Router::new()
            .fallback(forward)
            .with_state(Arc::new(Shared { routes, client }))
            .into_make_service_with_connect_info::<SocketAddr>();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        // Setting the option fails only on a closed socket, which the server notices by itself.
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let serve = axum::serve(listener, service).with_graceful_shutdown(stopped);
        Self { stop, task: tokio::spawn(serve.into_future()), _readiness: readiness }
    }

    /// Accepts no more connections, and closes the open ones after the grace
    /// period.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        match timeout(GRACE_PERIOD, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => error!("the proxy failed: {error}"),
            Ok(Err(error)) => error!("the proxy failed: {error}"),
            Err(_) => self.task.abort(),
        }
    }
}

async fn forward(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(pool) = shared.routes.pool(parts.uri.path()) else {
        return problem(StatusCode::NOT_FOUND, "No service has this path.");
    };
    headers::remove_hop_by_hop(&mut parts.headers);
    headers::add_forwarded_for(&mut parts.headers, client.ip());
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let target = parts.uri.path_and_query().cloned();
    let body = RetryBody::new(body);
    for upstream in pool.in_turn() {
        let mut parts = parts.clone();
        match uri(upstream, target.clone()) {
            Ok(uri) => parts.uri = uri,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{error}")),
        }
        let request = Request::from_parts(parts, body.clone());
        let Ok(outcome) = timeout(RESPONSE_TIMEOUT, shared.client.request(request)).await else {
            let seconds = RESPONSE_TIMEOUT.as_secs();
            warn!("{} did not respond to a request within {seconds} s", upstream.name);
            let detail = "The replica does not respond. It may have carried out the request. \
                          Send it again with the same Idempotency-Key.";
            return problem(StatusCode::GATEWAY_TIMEOUT, detail);
        };
        match outcome {
            Ok(response) => {
                let mut response = response.map(Body::new);
                headers::remove_hop_by_hop(response.headers_mut());
                return response;
            }
            // Nothing was sent, so the next replica can receive the whole body.
            Err(error) if error.is_connect() => {
                upstream.set_ready(false);
                let error = anyhow::Error::from(error);
                info!("connecting to {} failed: {error:#}", upstream.name);
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                warn!("{} failed during a request: {error:#}", upstream.name);
                let detail = "The replica failed during the request. It may have carried out the \
                              request. Send it again with the same Idempotency-Key.";
                return problem(StatusCode::BAD_GATEWAY, detail);
            }
        }
    }
    let service = pool.service;
    let detail = format!("No replica of the {service} can be reached. Nothing was carried out.");
    let response = problem(StatusCode::SERVICE_UNAVAILABLE, &detail);
    ([(header::RETRY_AFTER, "1")], response).into_response()
}

fn uri(upstream: &Upstream, target: Option<PathAndQuery>) -> Result<Uri, axum::http::Error> {
    Uri::builder()
        .scheme("http")
        .authority(upstream.authority.as_str())
        .path_and_query(target.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()
}

/// An error response of the proxy itself, as problem details (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let json = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, json, body.to_string()).into_response()
}
