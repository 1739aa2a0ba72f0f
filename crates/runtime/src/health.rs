//! What this process can say of itself: named conditions, each up or down with
//! a reason, that `/readyz` reports. Whoever watches a thing sets its
//! condition; nobody asks a database from inside a probe.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Whether a condition that is down takes the process out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Without it no request can be served: `/readyz` fails.
    Required,
    /// Without it the process still serves, with less: `/readyz` tells, and passes.
    Degraded,
}

#[derive(Debug, Clone)]
struct Condition {
    need: Need,
    since: Instant,
    down: Option<String>,
}

impl Condition {
    fn measure(&self, name: &'static str) {
        let required = if self.need == Need::Required { "true" } else { "false" };
        metrics::gauge!("passbook_condition_up", "condition" => name, "required" => required)
            .set(f64::from(u8::from(self.down.is_none())));
    }
}

/// The conditions of this process. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Condition>>>);

/// What `/readyz` answers.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether requests should come here.
    pub ready: bool,
    /// Each condition.
    pub conditions: Vec<ConditionReport>,
}

/// One condition in a [`Report`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionReport {
    /// What it is about, such as `postgres`.
    pub name: &'static str,
    /// Whether it holds.
    pub up: bool,
    /// Whether `ready` depends on it.
    pub required: bool,
    /// Why it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds since it last changed.
    pub for_seconds: u64,
}

impl Health {
    /// Adds a condition that is down until somebody says it is up.
    pub fn expect(&self, name: &'static str, need: Need) {
        let condition =
            Condition { need, since: Instant::now(), down: Some("not tried yet".to_owned()) };
        condition.measure(name);
        self.lock().insert(name, condition);
    }

    /// Says how a condition is: `None` up, else why it is down. Logs the change.
    pub fn set(&self, name: &'static str, down: Option<String>) {
        let mut conditions = self.lock();
        let Some(condition) = conditions.get_mut(name) else { return };
        let changes = condition.down.is_some() != down.is_some();
        if changes {
            condition.since = Instant::now();
            match &down {
                None => tracing::info!(condition = name, "is up"),
                Some(reason) => tracing::warn!(condition = name, reason, "is down"),
            }
        }
        condition.down = down;
        if changes {
            condition.measure(name);
        }
    }

    /// Everything, and whether requests should come here.
    #[must_use]
    pub fn report(&self) -> Report {
        let conditions: Vec<_> = self
            .lock()
            .iter()
            .map(|(name, condition)| ConditionReport {
                name,
                up: condition.down.is_none(),
                required: condition.need == Need::Required,
                reason: condition.down.clone(),
                for_seconds: condition.since.elapsed().as_secs(),
            })
            .collect();
        Report { ready: conditions.iter().all(|it| it.up || !it.required), conditions }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Condition>> {
        // A panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the database every second whether it is there, until `stop`.
///
/// # Errors
/// None; the type is that of an owned task.
pub async fn watch_postgres(
    health: Health,
    pool: sqlx::PgPool,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    const EVERY: Duration = Duration::from_secs(1);
    while !stop.is_cancelled() {
        let answer = tokio::time::timeout(EVERY * 2, sqlx::query("SELECT 1").execute(&pool)).await;
        health.set(
            "postgres",
            match answer {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer within 2 s".to_owned()),
            },
        );
        let _ = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
    }
    Ok(())
}

/// Looks every 200 ms whether NATS is connected, until `stop`.
///
/// # Errors
/// If the client's own task has died: a header that its parser panics on does
/// that. Nothing would ever arrive again, so the process has to begin anew.
pub async fn watch_nats(
    health: Health,
    client: async_nats::Client,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    const EVERY: Duration = Duration::from_millis(200);
    while !stop.is_cancelled() {
        let connected = client.connection_state() == async_nats::connection::State::Connected;
        health.set("nats", (!connected).then(|| "not connected".to_owned()));
        let flushed = tokio::time::timeout(EVERY, client.flush()).await;
        if let Ok(Err(error)) = flushed {
            anyhow::bail!(
                "the NATS client is gone ({error}): it used up PASSBOOK_NATS_MAX_RECONNECTS, or \
                 met a message that it can't read"
            );
        }
        let _ = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
    }
    Ok(())
}
