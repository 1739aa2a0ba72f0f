//! A renderer function that the test serves, and the receiver of alerts. Both see the
//! system from outside.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// One request to the renderer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) report: String,
    pub(super) attempt: u64,
    pub(super) format: String,
}

impl Call {
    fn new(request: &Value) -> Self {
        let text = |field: &str| request[field].as_str().unwrap().to_owned();
        let attempt = request["attempt"].as_u64().unwrap();
        Self { report: text("reportId"), attempt, format: text("format") }
    }

    /// The file of this call. It names the call, so that a download shows its origin.
    pub(super) fn file(&self) -> String {
        format!("{}/{}.{}", self.report, self.attempt, self.format)
    }
}

/// What the renderer does with a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// The file of the call, after this time.
    File(Duration),
    /// These bytes.
    Bytes(Vec<u8>),
    Status(StatusCode),
    /// 422 with a problem of this type.
    Problem(&'static str),
    /// A JSON body, such as a reference.
    Reference(Value),
    /// The connection stays open.
    Nothing,
}

/// The file at once.
pub(super) const AT_ONCE: Answer = Answer::File(Duration::ZERO);

/// The detail of each problem.
pub(super) const DETAIL: &str = "the function refuses the document";

type Script = dyn Fn(&Call) -> Answer + Send + Sync;

pub(super) struct Renderer {
    pub(super) url: String,
    state: Arc<RendererState>,
    _server: AbortOnDropHandle<()>,
}

struct RendererState {
    script: Mutex<Arc<Script>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    /// Reports in the renderer now. A report of a closed connection is no longer in it.
    inside: HashSet<String>,
    /// Most different reports in the renderer at the same moment.
    most_inside: usize,
}

impl Renderer {
    /// A renderer that answers at once.
    pub(super) async fn start() -> Self {
        let at_once: Arc<Script> = Arc::new(|_: &Call| AT_ONCE);
        let (script, seen) = (Mutex::new(at_once), Mutex::default());
        let state = Arc::new(RendererState { script, seen });
        let router = Router::new().fallback(render).with_state(Arc::clone(&state));
        let (url, _server) = serve(router).await;
        Self { url, state, _server }
    }

    /// Sets the answers from now on.
    pub(super) fn answer(&self, script: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(script);
    }

    /// All requests so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.seen().calls.clone()
    }

    /// The requests for a report so far.
    pub(super) fn calls_of(&self, report: &str) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| call.report == report);
        calls
    }

    pub(super) fn most_inside(&self) -> usize {
        self.seen().most_inside
    }

    /// The setting of the services.
    pub(super) fn setting(&self) -> String {
        format!("PASSBOOK_REPORT_RENDERER_URL={}", self.url)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.seen.lock().unwrap()
    }
}

/// Leaves the renderer when the request ends, also by a closed connection.
struct Inside {
    state: Arc<RendererState>,
    report: String,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.state.seen.lock().unwrap().inside.remove(&self.report);
    }
}

async fn render(State(state): State<Arc<RendererState>>, Json(request): Json<Value>) -> Response {
    let call = Call::new(&request);
    let inside = {
        let mut seen = state.seen.lock().unwrap();
        seen.calls.push(call.clone());
        seen.inside.insert(call.report.clone());
        seen.most_inside = seen.most_inside.max(seen.inside.len());
        Inside { state: Arc::clone(&state), report: call.report.clone() }
    };
    let script = Arc::clone(&state.script.lock().unwrap());
    let answer = script(&call);
    let response = match answer {
        Answer::File(after) => {
            let begun = Instant::now();
            tokio::time::sleep(after.saturating_sub(begun.elapsed())).await;
            ([(CONTENT_TYPE, "text/csv")], call.file()).into_response()
        }
        Answer::Bytes(bytes) => ([(CONTENT_TYPE, "text/csv")], bytes).into_response(),
        Answer::Status(status) => (status, "the function failed").into_response(),
        Answer::Problem(slug) => {
            let problem = json!({ "type": format!("/problems/{slug}"), "detail": DETAIL });
            let content_type = [(CONTENT_TYPE, "application/problem+json")];
            (StatusCode::UNPROCESSABLE_ENTITY, content_type, problem.to_string()).into_response()
        }
        Answer::Reference(reference) => Json(reference).into_response(),
        Answer::Nothing => std::future::pending().await,
    };
    drop(inside);
    response
}

/// Receives alerts. It refuses the first ones, if asked to.
pub(super) struct AlertReceiver {
    url: String,
    state: Arc<Mutex<Alerts>>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Alerts {
    refuse: usize,
    tries: usize,
    taken: Vec<Value>,
}

impl AlertReceiver {
    /// Refuses the first `refuse` alerts.
    pub(super) async fn start(refuse: usize) -> Self {
        let state = Arc::new(Mutex::new(Alerts { refuse, ..Alerts::default() }));
        let router = Router::new().route("/", post(receive)).with_state(Arc::clone(&state));
        let (url, _server) = serve(router).await;
        Self { url, state, _server }
    }

    pub(super) fn setting(&self) -> String {
        format!("PASSBOOK_REPORT_ALERT_WEBHOOK_URL={}", self.url)
    }

    /// The alerts taken so far.
    pub(super) fn taken(&self) -> Vec<Value> {
        self.state.lock().unwrap().taken.clone()
    }

    /// The alerts sent so far, the refused ones included.
    pub(super) fn tries(&self) -> usize {
        self.state.lock().unwrap().tries
    }
}

async fn receive(State(alerts): State<Arc<Mutex<Alerts>>>, Json(alert): Json<Value>) -> StatusCode {
    let mut alerts = alerts.lock().unwrap();
    alerts.tries += 1;
    if alerts.tries <= alerts.refuse {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    alerts.taken.push(alert);
    StatusCode::OK
}

async fn serve(router: Router) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (url, AbortOnDropHandle::new(server))
}
