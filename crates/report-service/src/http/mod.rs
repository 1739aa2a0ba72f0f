//! The public API, one file per resource.

mod access;
mod artifacts;
mod create;
mod events;
mod problems;
mod reports;
mod view;

use std::{ops::Deref, sync::Arc, time::Duration};

use ::artifacts::ArtifactStore;
use axum::{
    Router,
    extract::FromRef,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use reporting::{Accounts, Ledger};
use runtime::http::{
    bearer::TokenVerifier,
    rate_limit::RateLimits,
    request_layer::{RequestLimits, request_layer},
    server,
};
use runtime::postgres::PgPool;

use crate::{signer::Signer, wake::Waker, watch::Watch};

/// The state that the handlers share.
#[derive(Debug)]
pub struct Api {
    /// The reports.
    pub pool: PgPool,
    /// The accounts, to check statements.
    pub accounts: Accounts,
    /// The ledger, for its position.
    pub ledger: Ledger,
    /// The files.
    pub storage: Arc<ArtifactStore>,
    /// The key that signs files.
    pub signer: Option<Arc<Signer>>,
    /// Sends the messages of new reports.
    pub waker: Waker,
    /// The clients that follow a report.
    pub watch: Watch,
    /// Verifies tokens.
    pub verifier: TokenVerifier,
    /// The longest wait of a client for its report.
    pub longest_wait: Duration,
    /// Permits of requests.
    pub limits: RequestLimits,
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
        .route("/v1/reports", post(create::create).get(reports::list))
        .route("/v1/reports/signing-key", get(artifacts::signing_key))
        .route("/v1/reports/{report}", get(reports::show))
        .route("/v1/reports/{report}/cancel", post(reports::cancel))
        .route("/v1/reports/{report}/retry", post(create::retry))
        .route("/v1/reports/{report}/events", get(events::events))
        .route("/v1/reports/{report}/artifacts/{file}", get(artifacts::download));
    server::with_defaults(routes)
        .layer(from_fn_with_state(limits, request_layer))
        .with_state(ApiState(Arc::new(api)))
}
