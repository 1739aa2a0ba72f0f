//! The public API, one file a resource.

mod accounts;
mod auth;
mod batches;
mod movements;
mod path;
mod prefer;
mod problems;
mod records;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use runtime::{
    problem::UNAVAILABLE,
    trace::{Served, Trace},
};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use auth::Auth;

/// Turns for batches.
#[must_use]
pub fn turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(batches::AT_ONCE))
}

use crate::{accept::Acceptance, known::Known, settled::Settled};

/// What every handler works with.
#[derive(Debug)]
pub struct Api {
    /// The service's database.
    pub pool: PgPool,
    /// Where records are accepted.
    pub acceptance: Acceptance,
    /// How a waiting client hears of its record.
    pub settled: Settled,
    /// Who may do what.
    pub auth: Auth,
    /// The accounts and records that there are.
    pub known: Known,
    /// The longest a client may wait for its record.
    pub longest_wait: Duration,
    /// Requests that may be worked on at the same time.
    pub permits: Semaphore,
    /// Batches that may be worked on at the same time.
    pub batches: Arc<Semaphore>,
    /// Cancelled when the process is to end.
    pub draining: CancellationToken,
}

/// One for all requests.
type Shared = Arc<Api>;

/// All routes.
pub fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let routes = Router::new()
        .route("/v1/accounts", post(accounts::open))
        .route("/v1/accounts/{account}", get(accounts::show))
        .route("/v1/accounts/{account}/deposits", post(movements::deposit))
        .route("/v1/accounts/{account}/withdrawals", post(movements::withdraw))
        .route("/v1/accounts/{account}/records", get(records::list))
        .route("/v1/records/{record}", get(records::show))
        .route("/v1/batches", post(batches::accept));
    runtime::http::with_defaults(routes)
        .layer(from_fn_with_state(Arc::clone(&api), each))
        .with_state(api)
}

/// What is done for each request, whatever it asks for: a trace, a span for its
/// log lines, its metrics; a permit before any work; and, while draining, the
/// wish that the client goes elsewhere. One layer, since each costs.
async fn each(State(api): State<Shared>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (method, version) = (method(request.method()), request.version());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(String::new, |path| path.as_str().to_owned());
    let trace = Trace::of_request(request.headers());
    let span = tracing::info_span!(
        "request",
        trace_id = trace.id(),
        span_id = trace.span_id(),
        method,
        route
    );
    let recorded =
        trace.is_recorded().then(|| (SystemTime::now(), request.uri().path().to_owned()));
    request.extensions_mut().insert(trace);
    let mut response = match api.permits.try_acquire() {
        Ok(_permit) => next.run(request).instrument(span).await,
        Err(_) => UNAVAILABLE
            .because("Too many requests are being worked on. Nothing was done.")
            .retry_after(1)
            .into_response(),
    };
    if api.draining.is_cancelled() {
        runtime::http::ask_to_close(version, &mut response);
    }
    if let Some((begun, path)) = recorded {
        let (route, status) = (route.clone(), response.status().as_u16());
        trace.served(Served { begun, method, route, path, status });
    }
    let status = response.status().as_str().to_owned();
    metrics::histogram!("passbook_http_request_seconds",
        "method" => method, "route" => route, "status" => status)
    .record(begun.elapsed().as_secs_f64());
    response
}

/// A method's name in logs and metrics. Clients may make up any; here they are
/// few.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
