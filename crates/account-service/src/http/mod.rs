//! The public API, one file per resource.

mod access;
mod accounts;
mod batch_items;
mod batches;
mod movements;
mod problems;
mod record_query;
mod records;
mod wait;

pub use batches::BatchBodies;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::FromRef,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use runtime::http::{
    bearer::TokenVerifier,
    rate_limit::RateLimits,
    request_layer::{RequestLimits, request_layer},
    server,
};
use runtime::postgres::PgPool;
use tokio::sync::Semaphore;

use crate::{accept::Acceptor, lookup::Lookup, waiters::Waiters};

/// The state that the handlers share.
#[derive(Debug)]
pub struct Api {
    pub pool: PgPool,
    pub acceptor: Acceptor,
    pub lookup: Lookup,
    /// The clients waiting for their records.
    pub waiters: Waiters,
    pub verifier: TokenVerifier,
    /// The longest wait of a client for its record.
    pub longest_wait: Duration,
    pub limits: RequestLimits,
    /// One permit per batch in process.
    pub batch_permits: Arc<Semaphore>,
    /// One permit per batch whose client waits for its records.
    pub batch_waits: Semaphore,
    /// The places for the bodies of batches.
    pub batch_bodies: BatchBodies,
}

impl Api {
    /// The permits for concurrent batches.
    #[must_use]
    pub fn batch_permits() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(batches::MAX_CONCURRENT))
    }

    /// The permits for batches whose clients wait.
    #[must_use]
    pub const fn batch_waits() -> Semaphore {
        Semaphore::const_new(batches::MAX_WAITING)
    }

    /// The places for the bodies of batches.
    #[must_use]
    pub const fn batch_bodies() -> BatchBodies {
        BatchBodies::new()
    }
}

/// The shared state of all requests.
#[derive(Debug, Clone)]
struct ApiState(Arc<Api>);

impl Deref for ApiState {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.0
    }
}

impl FromRef<ApiState> for TokenVerifier {
    fn from_ref(state: &ApiState) -> Self {
        state.verifier.clone()
    }
}

impl FromRef<ApiState> for RateLimits {
    fn from_ref(state: &ApiState) -> Self {
        state.limits.rates.clone()
    }
}

/// All routes.
pub fn router(api: Api) -> Router {
    let limits = api.limits.clone();
    let routes = Router::new()
        .route("/v1/accounts", get(accounts::list).post(accounts::open))
        .route("/v1/accounts/{account}", get(accounts::show))
        .route("/v1/accounts/{account}/deposits", post(movements::deposit))
        .route("/v1/accounts/{account}/withdrawals", post(movements::withdraw))
        .route("/v1/accounts/{account}/records", get(records::list))
        .route("/v1/records/{record}", get(records::show))
        .route("/v1/batches", post(batches::accept));
    server::with_defaults(routes)
        .layer(from_fn_with_state(limits, request_layer))
        .with_state(ApiState(Arc::new(api)))
}
