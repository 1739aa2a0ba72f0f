//! The layer around every request: a trace, a log span, metrics, a permit, header fields, and
//! `Connection: close` while draining. One layer does all of it, because each layer
//! costs time in every request.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Version,
        header::{CACHE_CONTROL, CONNECTION, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, field::Empty};

use super::{
    problem::{Problem, UNAVAILABLE},
    rate_limit::{RateLimits, RateSlot},
    refusal_log::RefusalLog,
};
use crate::telemetry::trace::{Served, Trace};

/// The state that all requests share.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    /// One permit per request in process, waiting clients included. A request
    /// without a permit is rejected with 503.
    pub permits: Arc<Semaphore>,
    /// Cancelled when the stop begins.
    pub draining: CancellationToken,
    /// The limits of each caller.
    pub rates: RateLimits,
    refusals: RefusalLog,
}

impl RequestLimits {
    /// Limits of a service.
    #[must_use]
    pub fn new(permits: Arc<Semaphore>, draining: CancellationToken, rates: RateLimits) -> Self {
        Self { permits, draining, rates, refusals: RefusalLog::default() }
    }

    /// Logs the first refusal among the problems within a larger response.
    pub fn note_refusal<'a>(&self, mut problems: impl Iterator<Item = &'a Problem>) {
        if let Some(problem) = problems.find(|problem| problem.refusal().is_some()) {
            self.refusals.note(problem);
        }
    }
}

/// The same id as in the log, for a client to name in a report of an error.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

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
    let id = trace.id();
    let span = tracing::info_span!(
        "request",
        trace_id = id,
        span_id = trace.span_id(),
        method,
        route,
        caller = Empty
    );
    let recorded =
        trace.is_recorded().then(|| (SystemTime::now(), request.uri().path().to_owned()));
    request.extensions_mut().insert(trace);
    let rate = RateSlot::default();
    request.extensions_mut().insert(rate.clone());
    let mut response = match limits.permits.try_acquire() {
        Ok(_permit) => {
            let response = next.run(request).instrument(span.clone()).await;
            let response = limits.rates.unread.count(response, rate.caller(), method == "GET");
            span.in_scope(|| limits.refusals.note_response(&response));
            response
        }
        Err(_) => UNAVAILABLE
            .because("Too many requests are in process. Nothing was stored.")
            .retry_after(1)
            .into_response(),
    };
    Problem::trace(&mut response, &id);
    rate.write(response.headers_mut());
    add_defaults(response.headers_mut(), &id);
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

/// Adds the header fields of every response. Amounts and balances stay in no cache.
fn add_defaults(headers: &mut HeaderMap, id: &str) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
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
