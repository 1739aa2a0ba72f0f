//! Metrics about all endpoints, read from the rows by each replica. No label names an endpoint.

use std::{sync::Arc, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use runtime::{
    postgres::{PgPool, limited},
    tasks::sleep_unless_stopped,
    telemetry::metrics::float,
};
use tokio_util::sync::CancellationToken;

use crate::{
    seal::SealingKeys,
    store::{self, StoreError},
};

/// Pause between two reads.
const EVERY: Duration = Duration::from_secs(5);

/// Describes the metrics of this service. Counters start at zero.
pub fn describe() {
    describe_counter!(
        "passbook_webhook_attempts_total",
        Unit::Count,
        "Requests to receivers, delivered or failed."
    );
    describe_counter!(
        "passbook_webhook_endpoints_disabled_total",
        Unit::Count,
        "Endpoints that the service disabled: gone (410), or failing for days."
    );
    describe_gauge!(
        "passbook_webhook_endpoints",
        Unit::Count,
        "Endpoints by state: healthy, failing, disabled (by a request), gone or given_up."
    );
    describe_gauge!(
        "passbook_webhook_retries_waiting",
        Unit::Count,
        "Failed deliveries that wait for their next attempt."
    );
    describe_gauge!(
        "passbook_webhook_oldest_event_seconds",
        Unit::Seconds,
        "Age of the oldest undelivered event of an enabled endpoint: failing, because its receiver \
         does not take it, or untried."
    );
    describe_gauge!(
        "passbook_webhook_secrets_old_key",
        Unit::Count,
        "Secrets that are not sealed with the first key of PASSBOOK_WEBHOOK_SECRET_KEYS."
    );
    for outcome in ["delivered", "failed"] {
        counter!("passbook_webhook_attempts_total", "outcome" => outcome).increment(0);
    }
    for because in ["gone", "failing"] {
        counter!("passbook_webhook_endpoints_disabled_total", "because" => because).increment(0);
    }
}

/// Sets the gauges until `stop`.
pub async fn run(pool: PgPool, sealing: Arc<SealingKeys>, stop: CancellationToken) {
    loop {
        if let Err(error) = run_once(&pool, &sealing).await {
            tracing::warn!(%error, "counting webhook endpoints failed");
        }
        if !sleep_unless_stopped(EVERY, &stop).await {
            return;
        }
    }
}

async fn run_once(pool: &PgPool, sealing: &SealingKeys) -> Result<(), StoreError> {
    let counts = limited(store::count_endpoints_by_state(pool)).await??;
    for (state, number) in [
        ("healthy", counts.healthy),
        ("failing", counts.failing),
        ("disabled", counts.disabled),
        ("gone", counts.gone),
        ("given_up", counts.given_up),
    ] {
        gauge!("passbook_webhook_endpoints", "state" => state).set(number_of(number));
    }
    let backlog = limited(store::find_backlog(pool, &sealing.present())).await??;
    gauge!("passbook_webhook_retries_waiting").set(number_of(backlog.retries));
    for (reason, age) in [("failing", backlog.failing_age), ("untried", backlog.untried_age)] {
        gauge!("passbook_webhook_oldest_event_seconds", "reason" => reason).set(age.max(0.0));
    }
    gauge!("passbook_webhook_secrets_old_key").set(number_of(backlog.old_seals));
    Ok(())
}

fn number_of(rows: i64) -> f64 {
    float(u64::try_from(rows).unwrap_or_default())
}
