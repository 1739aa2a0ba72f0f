//! A proxy in front of the real server that fails chosen requests.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// Forwards to the server, without looking at what is forwarded.
pub(super) struct FaultyProxy {
    endpoint: String,
    state: Arc<ProxyState>,
    _server: AbortOnDropHandle<()>,
}

struct ProxyState {
    server: String,
    client: reqwest::Client,
    fault: Mutex<Fault>,
}

#[derive(Default)]
struct Fault {
    /// Part of the request's path and query.
    pattern: Option<&'static str>,
    /// `None` is silence.
    answer: Option<StatusCode>,
    once: bool,
    hits: usize,
}

impl FaultyProxy {
    pub(super) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (client, fault) = (reqwest::Client::new(), Mutex::default());
        let state = Arc::new(ProxyState { server, client, fault });
        let router = Router::new().fallback(forward).with_state(Arc::clone(&state));
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, state, _server: AbortOnDropHandle::new(server) }
    }

    pub(super) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Fails each request whose path and query have `pattern`; `None` never answers.
    pub(super) fn answer(&self, pattern: &'static str, answer: Option<StatusCode>) {
        let fault = Fault { pattern: Some(pattern), answer, once: false, hits: 0 };
        *self.state.fault.lock().unwrap() = fault;
    }

    /// Fails only the first such request.
    pub(super) fn answer_once(&self, pattern: &'static str, answer: StatusCode) {
        self.answer(pattern, Some(answer));
        self.state.fault.lock().unwrap().once = true;
    }

    pub(super) fn heal(&self) {
        *self.state.fault.lock().unwrap() = Fault::default();
    }

    /// Requests failed so far.
    pub(super) fn hits(&self) -> usize {
        self.state.fault.lock().unwrap().hits
    }
}

impl ProxyState {
    /// Whether to fail the request, and how.
    fn fault(&self, path: &str) -> Option<Option<StatusCode>> {
        let mut fault = self.fault.lock().unwrap();
        let hit = fault.pattern.is_some_and(|pattern| path.contains(pattern));
        if !hit || (fault.once && fault.hits > 0) {
            return None;
        }
        fault.hits += 1;
        Some(fault.answer)
    }
}

async fn forward(State(state): State<Arc<ProxyState>>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    match state.fault(&path) {
        Some(Some(status)) => return status.into_response(),
        Some(None) => std::future::pending().await,
        None => {}
    }
    // The host belongs to the signature, and goes along with the other headers.
    let url = format!("{}{path}", state.server);
    let request = state.client.request(parts.method, url).headers(parts.headers).body(body);
    match request.send().await {
        Ok(answer) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            response.headers_mut().remove("transfer-encoding");
            *response.body_mut() = Body::from(answer.bytes().await.unwrap_or_default());
            response
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
