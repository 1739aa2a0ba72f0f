//! The public API, one file per resource.

mod access;
mod accounts;
mod api_key_request;
mod api_keys;
mod audit_log;
mod balances;
mod batch_items;
mod batch_permits;
mod batches;
mod consistency;
mod events;
mod labels;
mod movements;
mod parsers;
mod problems;
mod record_query;
mod records;
mod reference;
mod schemas;
mod wait;

pub use api_keys::StoredKeys;
pub use balances::parse_instant;
pub use batches::{BatchBodies, MAX_ITEMS as MAX_BATCH_ITEMS};
pub use events::{EventTail, StreamSlots, event_json};
pub use parsers::{
    ParsedBatch, parse_api_key, parse_audit_query, parse_batch, parse_movement, parse_records_query,
};
pub use problems::TYPES as PROBLEM_TYPES;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{Router, extract::FromRef, middleware::from_fn_with_state, routing::get};
use runtime::http::{
    bearer::TokenVerifier,
    rate_limit::RateLimits,
    request_layer::{RequestLimits, request_layer},
    server,
};
use runtime::postgres::PgPool;
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    accept::Acceptor, events::EventLog, ledger_reads::LedgerReads, lookup::Lookup, places::Places,
    waiters::Waiters,
};

/// The state that the handlers share.
#[derive(Debug)]
pub struct Api {
    pub pool: PgPool,
    pub acceptor: Acceptor,
    pub lookup: Lookup,
    pub events: EventLog,
    /// The new events, for streams.
    pub event_tail: EventTail,
    pub stream_slots: StreamSlots,
    /// The ledger, if this service may read it.
    pub ledger: Option<LedgerReads>,
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
    /// The places for the batches of each customer.
    pub customer_batches: Places,
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

    /// The places for the batches of each customer.
    #[must_use]
    pub fn customer_batches() -> Places {
        Places::new(batches::MAX_OF_CUSTOMER)
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

/// All routes, with their operations in the OpenAPI document.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(accounts::open, accounts::list))
        .routes(routes!(accounts::show))
        .routes(routes!(balances::show))
        .routes(routes!(movements::deposit))
        .routes(routes!(movements::withdraw))
        .routes(routes!(records::list))
        .routes(routes!(records::show))
        .routes(routes!(batches::accept))
        .routes(routes!(events::read_events))
        .routes(routes!(api_keys::create, api_keys::list))
        .routes(routes!(api_keys::revoke))
        .routes(routes!(audit_log::list))
        .routes(routes!(reference::openapi))
        .routes(routes!(reference::problem))
        .route("/problems/{slug}", get(reference::problem))
        .route("/docs", get(reference::page))
        .route("/docs/style.css", get(reference::style))
}

/// This service's part of the OpenAPI document.
#[must_use]
pub fn openapi() -> OpenApi {
    routes().into_openapi()
}

/// The public API.
pub fn router(api: Api) -> Router {
    let limits = api.limits.clone();
    server::with_defaults(routes().into())
        .layer(from_fn_with_state(limits, request_layer))
        .with_state(ApiState(Arc::new(api)))
}
