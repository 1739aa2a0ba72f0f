//! The health of a process: named conditions, each up or down with a reason.
//! `/readyz` reports them. Background tasks set the conditions, so that a probe
//! never waits for a database.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    postgres::{self, PgPool},
    tasks::sleep_unless_stopped,
};

/// Whether the process is ready while a condition is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The process is not ready without it: `/readyz` fails.
    Required,
    /// The process is ready without it: `/readyz` passes and reports the condition.
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

/// The conditions of this process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Condition>>>);

/// The response of `/readyz`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every required condition is up and no stop has begun.
    pub ready: bool,
    pub conditions: Vec<ConditionReport>,
}

/// One condition in a [`Report`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionReport {
    /// For example `postgres`.
    pub name: &'static str,
    pub up: bool,
    /// Whether `ready` depends on this condition.
    pub required: bool,
    /// Why the condition is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds since the condition last changed.
    pub for_seconds: u64,
}

impl Health {
    /// Adds a condition, which is down until [`Health::set`].
    pub fn expect(&self, name: &'static str, need: Need) {
        let condition =
            Condition { need, since: Instant::now(), down: Some("not checked yet".to_owned()) };
        condition.measure(name);
        self.lock().insert(name, condition);
    }

    /// Sets a condition: up with `None`, otherwise down with a reason. A change is
    /// logged.
    pub fn set(&self, name: &'static str, down: Option<String>) {
        let mut conditions = self.lock();
        let Some(condition) = conditions.get_mut(name) else { return };
        let changes = condition.down.is_some() != down.is_some();
        if changes {
            condition.since = Instant::now();
            match &down {
                None => tracing::info!(condition = name, "a condition is up"),
                Some(reason) => tracing::warn!(condition = name, reason, "a condition is down"),
            }
        }
        condition.down = down;
        if changes {
            condition.measure(name);
        }
    }

    /// All conditions, and whether the process is ready.
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
        Report {
            ready: conditions.iter().all(|condition| condition.up || !condition.required),
            conditions,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Condition>> {
        // The map stays valid if a panic interrupts a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks every second whether the database takes writes, until `stop`.
pub async fn watch_postgres(health: Health, pool: PgPool, stop: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(1);
    while !stop.is_cancelled() {
        health.set("postgres", postgres::not_writable(&pool, EVERY * 2).await);
        sleep_unless_stopped(EVERY, &stop).await;
    }
}

/// Checks every 200 ms whether NATS is connected, until `stop`.
///
/// # Errors
/// If the client's own task has ended: its reconnects are exhausted, or its parser
/// panicked on a header. No message can arrive any more, so the process must
/// restart.
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
                "the NATS client ended ({error}): PASSBOOK_NATS_MAX_RECONNECTS is exhausted, or \
                 it received a message that it can't parse"
            );
        }
        sleep_unless_stopped(EVERY, &stop).await;
    }
    Ok(())
}
