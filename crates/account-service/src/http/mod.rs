//! The public API, one file a resource.

mod accounts;
mod auth;
mod movements;
mod path;
mod prefer;
mod problems;
mod records;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use contract::{AccountId, Currency, UserId};
use quick_cache::sync::Cache;
use runtime::{problem::UNAVAILABLE, trace::Trace};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use auth::Auth;

use crate::{accept::Acceptance, settled::Settled};

/// What never changes about an account: its owner and its currency.
pub type KnownAccounts = Cache<AccountId, (UserId, Currency)>;

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
    /// Accounts that were looked up before.
    pub known_accounts: KnownAccounts,
    /// The longest a client may wait for its record.
    pub longest_wait: Duration,
    /// Requests that may be worked on at the same time.
    pub permits: Semaphore,
    /// Cancelled when the process is to end.
    pub draining: CancellationToken,
}

/// One for all requests.
type Shared = Arc<Api>;

/// All routes.
pub fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let draining = api.draining.clone();
    let routes = Router::new()
        .route("/v1/accounts", post(accounts::open))
        .route("/v1/accounts/{account}", get(accounts::show))
        .route("/v1/accounts/{account}/deposits", post(movements::deposit))
        .route("/v1/accounts/{account}/withdrawals", post(movements::withdraw))
        .route("/v1/accounts/{account}/records", get(records::list))
        .route("/v1/records/{record}", get(records::show))
        .layer(from_fn_with_state(Arc::clone(&api), admit))
        .layer(from_fn(observe));
    runtime::http::with_defaults(routes.with_state(api), draining)
}

/// Takes a permit before any work, or says at once that there is none.
async fn admit(State(api): State<Shared>, request: Request, next: Next) -> Response {
    match api.permits.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => UNAVAILABLE
            .because("Too many requests are being worked on. Nothing was done.")
            .retry_after(1)
            .into_response(),
    }
}

/// Gives a request its trace, a span for its log lines, and its metrics.
async fn observe(mut request: Request, next: Next) -> Response {
    let begun = std::time::Instant::now();
    let trace = Trace::of_request(request.headers());
    let method = request.method().to_string();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(String::new, |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", trace_id = trace.id(), %method, route);
    request.extensions_mut().insert(trace);
    let response = next.run(request).instrument(span).await;
    let status = response.status().as_str().to_owned();
    metrics::histogram!("passbook_http_request_seconds",
        "method" => method, "route" => route, "status" => status)
    .record(begun.elapsed().as_secs_f64());
    response
}
