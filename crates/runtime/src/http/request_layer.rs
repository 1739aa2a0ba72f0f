//! The layer around every request: a trace, a log span, metrics, a permit, and
//! `Connection: close` while draining. One layer does all of it, because each layer
//! costs time in every request.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, Version, header::CONNECTION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::problem::{Problem, UNAVAILABLE};
use crate::telemetry::trace::{Served, Trace};

/// The state that all requests share.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    /// One permit per request in process, waiting clients included. A request
    /// without a permit is rejected with 503.
    pub permits: Arc<Semaphore>,
    /// Cancelled when the stop begins.
    pub draining: CancellationToken,
}

/// Runs one request. Use with [`axum::middleware::from_fn_with_state`].
pub async fn request_layer(
    State(limits): State<RequestLimits>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let (method, version) = (method_name(request.method()), request.version());
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
    let mut response = match limits.permits.try_acquire() {
        Ok(_permit) => next.run(request).instrument(span).await,
        Err(_) => UNAVAILABLE
            .because("Too many requests are in process. Nothing was stored.")
            .retry_after(1)
            .into_response(),
    };
    Problem::trace(&mut response, &trace.id().to_string());
    if limits.draining.is_cancelled() {
        ask_to_close(version, &mut response);
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

/// Asks an HTTP/1.1 client to reconnect elsewhere before the listener closes.
fn ask_to_close(version: Version, response: &mut Response) {
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A method's name in logs and metrics. Unknown methods share one name, so that
/// clients can't add metric labels.
fn method_name(method: &Method) -> &'static str {
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
