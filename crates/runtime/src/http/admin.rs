//! The admin port: `/livez` (the process runs), `/readyz` (the process takes
//! requests), `/metrics` (Prometheus text format).

use std::time::Duration;

use crate::postgres::PgPool;
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use super::{
    listener::{Listener, Listening, admin_limit},
    places::Places,
    server::serve_until,
};
use crate::{health::Health, postgres, telemetry::process_metrics};

/// Time limit for the requests in process at the stop.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Admin {
    health: Health,
    metrics: PrometheusHandle,
    pool: PgPool,
    draining: CancellationToken,
}

/// Serves the admin port until `stop`. `/readyz` fails once `draining` is
/// cancelled.
///
/// # Errors
/// None. The signature is that of a fallible task.
pub async fn serve(
    listening: Listening,
    health: Health,
    metrics: PrometheusHandle,
    pool: PgPool,
    draining: CancellationToken,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Admin { health, metrics, pool, draining });
    let listener = Listener::new(listening, "admin port");
    let places = Places::new(admin_limit());
    let served = serve_until(stop.cancelled_owned(), listener, router, places, GRACE).await;
    if let Err(error) = served {
        tracing::warn!(%error, "the admin port closed before its last response was sent");
    }
    Ok(())
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    let mut report = admin.health.report();
    if admin.draining.is_cancelled() {
        report.ready = false;
    }
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    postgres::record_metrics(&admin.pool);
    let text = admin.metrics.render() + &process_metrics::render();
    ([("content-type", "text/plain; version=0.0.4")], text)
}
