//! One HTTP address before all replicas of the account-service, as a Service
//! and an Ingress are in Kubernetes: it asks every replica whether it is
//! ready and hands requests to those that are, in turn.
//!
//! A request goes to another replica only if none of it was sent: what may
//! have been received is never repeated. Its sender does that, under the same
//! idempotency key.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

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
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{headers, shared_body::SharedBody};

const READINESS_EVERY: Duration = Duration::from_millis(200);
const READINESS_TIMEOUT: Duration = Duration::from_secs(1);
/// Before a replica closes an idle connection by itself.
const IDLE: Duration = Duration::from_secs(30);
/// Longer than any wait that a client gets.
const LONGEST_ANSWER: Duration = Duration::from_secs(45);
/// How long open connections may go on once the front stops.
const GRACE: Duration = Duration::from_secs(1);

/// One replica of the service.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Its process's name.
    pub(crate) name: String,
    /// Where it serves its API: `127.0.0.1:20001`.
    pub(crate) authority: String,
    /// Where it tells whether it is ready.
    pub(crate) readyz: String,
}

/// A front that serves.
#[derive(Debug)]
pub(crate) struct Front {
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
    /// Ask the replicas whether they are ready; aborted when dropped.
    _readiness: JoinSet<()>,
}

struct Upstream {
    replica: Replica,
    ready: AtomicBool,
}

struct Upstreams {
    all: Vec<Arc<Upstream>>,
    next: AtomicUsize,
    client: Client<HttpConnector, SharedBody>,
}

impl Front {
    /// Serves on `listener` until it is stopped. The replicas are taken to be
    /// ready at first.
    pub(crate) fn start(
        listener: TcpListener,
        replicas: Vec<Replica>,
        http: &reqwest::Client,
    ) -> Self {
        let upstream = |replica| Arc::new(Upstream { replica, ready: AtomicBool::new(true) });
        let all: Vec<_> = replicas.into_iter().map(upstream).collect();
        let mut readiness = JoinSet::new();
        for upstream in &all {
            readiness.spawn(follow_readiness(Arc::clone(upstream), http.clone()));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        let upstreams = Arc::new(Upstreams { all, next: AtomicUsize::new(0), client });
        let service = Router::new()
            .fallback(forward)
            .with_state(upstreams)
            .into_make_service_with_connect_info::<SocketAddr>();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        // A socket that can't be set is one that is closed: serving finds that out by itself.
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let serve = axum::serve(listener, service).with_graceful_shutdown(stopped);
        Self { stop, task: tokio::spawn(serve.into_future()), _readiness: readiness }
    }

    /// Takes no more connections and lets the open ones end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        match timeout(GRACE, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => error!("the front failed: {error}"),
            Ok(Err(error)) => error!("the front failed: {error}"),
            Err(_) => self.task.abort(),
        }
    }
}

async fn follow_readiness(upstream: Arc<Upstream>, http: reqwest::Client) {
    loop {
        let answer = http.get(&upstream.replica.readyz).timeout(READINESS_TIMEOUT).send().await;
        let ready = answer.is_ok_and(|answer| answer.status() == StatusCode::OK);
        if upstream.ready.swap(ready, Ordering::Relaxed) != ready {
            let now = if ready { "is ready" } else { "is not ready" };
            info!("{} {now}", upstream.replica.name);
        }
        sleep(READINESS_EVERY).await;
    }
}

impl Upstreams {
    /// The replicas that are ready, each time from another one on. If none is,
    /// all of them: one that is about to end still serves (as Kubernetes sends
    /// requests to terminating endpoints when there are no others).
    fn in_turn(&self) -> impl Iterator<Item = &Upstream> {
        let is_ready = |upstream: &&Arc<Upstream>| upstream.ready.load(Ordering::Relaxed);
        let mut ready: Vec<_> = self.all.iter().filter(is_ready).collect();
        if ready.is_empty() {
            ready = self.all.iter().collect();
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(ready.len());
        let count = ready.len();
        ready.into_iter().cycle().skip(first.unwrap_or(0)).take(count).map(AsRef::as_ref)
    }
}

async fn forward(
    State(upstreams): State<Arc<Upstreams>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    headers::remove_hop_by_hop(&mut parts.headers);
    headers::add_forwarded_for(&mut parts.headers, client.ip());
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let target = parts.uri.path_and_query().cloned();
    let body = SharedBody::new(body);
    for upstream in upstreams.in_turn() {
        let mut parts = parts.clone();
        match uri(&upstream.replica, target.clone()) {
            Ok(uri) => parts.uri = uri,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{error}")),
        }
        let request = Request::from_parts(parts, body.clone());
        let answered = timeout(LONGEST_ANSWER, upstreams.client.request(request)).await;
        let Ok(answered) = answered else {
            warn!("{} does not answer a request", upstream.replica.name);
            let detail = "The replica does not answer. The request may have been carried out. \
                          Send it again with the same Idempotency-Key.";
            return problem(StatusCode::GATEWAY_TIMEOUT, detail);
        };
        match answered {
            Ok(answer) => {
                let mut answer = answer.map(Body::new);
                headers::remove_hop_by_hop(answer.headers_mut());
                return answer;
            }
            // Nothing was sent, so the body is still whole.
            Err(error) if error.is_connect() => {
                upstream.ready.store(false, Ordering::Relaxed);
                let error = anyhow::Error::from(error);
                info!("{} can't be connected to: {error:#}", upstream.replica.name);
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                warn!("{} failed in the middle of a request: {error:#}", upstream.replica.name);
                let detail = "The replica failed in the middle of the request, which may have \
                              been carried out. Send it again with the same Idempotency-Key.";
                return problem(StatusCode::BAD_GATEWAY, detail);
            }
        }
    }
    let detail = "No replica of the account-service can be reached. Nothing was carried out.";
    let answer = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    ([(header::RETRY_AFTER, "1")], answer).into_response()
}

fn uri(replica: &Replica, target: Option<PathAndQuery>) -> Result<Uri, axum::http::Error> {
    Uri::builder()
        .scheme("http")
        .authority(replica.authority.as_str())
        .path_and_query(target.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()
}

/// An answer of the front's own, as RFC 9457 has it.
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
