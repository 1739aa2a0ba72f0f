//! The public API, one file per resource.

mod access;
mod artifacts;
mod audit_log;
mod create;
mod events;
mod parsers;
mod problems;
mod reports;
mod schemas;
mod view;

pub use artifacts::{Requested, parse_range};
pub use parsers::{ParsedReport, parse_report};
pub use problems::TYPES as PROBLEM_TYPES;

use std::{ops::Deref, sync::Arc, time::Duration};

use ::artifacts::ArtifactStore;
use axum::{Router, extract::FromRef, middleware::from_fn_with_state};
use reporting::{Accounts, Ledger};
use runtime::http::{
    bearer::TokenVerifier,
    rate_limit::RateLimits,
    request_layer::{RequestLimits, request_layer},
    server,
};
use runtime::postgres::PgPool;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

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

/// All routes, with their operations in the OpenAPI document.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(create::create, reports::list))
        .routes(routes!(artifacts::signing_key))
        .routes(routes!(audit_log::list))
        .routes(routes!(reports::show))
        .routes(routes!(reports::cancel))
        .routes(routes!(create::retry))
        .routes(routes!(events::events))
        .routes(routes!(artifacts::download))
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
