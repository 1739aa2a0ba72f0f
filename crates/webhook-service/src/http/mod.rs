//! The public API: `/v1/webhook-endpoints`.

mod access;
mod change;
mod create;
mod deliveries;
mod endpoints;
mod new_key;
mod parsers;
mod problems;
mod redeliver;
mod rotate;
mod url;
mod view;

pub use parsers::{ParsedEndpoint, parse_change, parse_endpoint};
pub use problems::TYPES as PROBLEM_TYPES;
pub use url::UrlRules;

use std::{ops::Deref, sync::Arc, time::Duration};

use account_service::events::EventLog;
use axum::{Router, extract::FromRef, middleware::from_fn_with_state};
use runtime::{
    http::{
        bearer::TokenVerifier,
        rate_limit::RateLimits,
        request_layer::{RequestLimits, request_layer},
        server,
    },
    postgres::PgPool,
};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{address::AddressGuard, seal::SealingKeys};

/// The state that the handlers share.
#[derive(Debug)]
pub struct Api {
    pub pool: PgPool,
    pub log: EventLog,
    pub sealing: Arc<SealingKeys>,
    pub guard: AddressGuard,
    /// Whether endpoints with `http` are accepted.
    pub allow_http: bool,
    /// How long a secret signs beside its successor.
    pub secret_overlap: Duration,
    pub verifier: TokenVerifier,
    pub limits: RequestLimits,
}

impl Api {
    fn url_rules(&self) -> UrlRules<'_> {
        UrlRules { guard: &self.guard, allow_http: self.allow_http }
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
        .routes(routes!(create::create, endpoints::list))
        .routes(routes!(endpoints::show, change::change, endpoints::delete))
        .routes(routes!(rotate::rotate))
        .routes(routes!(redeliver::redeliver))
        .routes(routes!(deliveries::list))
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
