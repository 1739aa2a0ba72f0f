//! The control of an attempt: its progress, its lease, and the reasons to end early.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use runtime::postgres::PgPool;
use runtime::{postgres::limited, telemetry::trace::Trace};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    report::AttemptKey,
    store::{self, Beat, Progress},
};

/// How long an attempt may take to end by itself after it was asked to. Then it is
/// dropped.
const GRACE: Duration = Duration::from_secs(10);

/// Why an attempt ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    /// A client cancelled the report.
    Cancelled,
    /// The process stops.
    Stopping,
    /// The lease is over: another worker may have the report.
    LeaseLost,
}

/// Shared by the attempt and its heartbeat.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    trace: Trace,
    progress: Arc<Mutex<Progress>>,
    /// Cancelled once the attempt should end.
    end: CancellationToken,
    /// Why it should end.
    early: Arc<OnceLock<Early>>,
}

impl Control {
    pub(crate) fn new(trace: Trace) -> Self {
        Self {
            trace,
            progress: Arc::default(),
            end: CancellationToken::new(),
            early: Arc::default(),
        }
    }

    /// Begins a step.
    pub(crate) fn step(&self, step: impl Into<String>, total: Option<u64>) {
        let mut progress = self.lock();
        progress.step = step.into();
        progress.done = 0;
        progress.total = total.and_then(|total| i64::try_from(total).ok());
    }

    /// Rows done in this step. `false` once the attempt should end.
    pub(crate) fn rows(&self, done: u64) -> bool {
        self.lock().done = i64::try_from(done).unwrap_or(i64::MAX);
        !self.end.is_cancelled()
    }

    /// The rows of this step.
    pub(crate) fn total(&self, total: u64) {
        self.lock().total = i64::try_from(total).ok();
    }

    /// Stores from where the next attempt can continue.
    pub(crate) fn checkpoint(&self, checkpoint: serde_json::Value) {
        self.lock().checkpoint = Some(checkpoint);
    }

    /// The span of the attempt.
    pub(crate) const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The token that ends the attempt.
    pub(crate) const fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// Why the attempt should end; `None` if it may go on.
    pub(crate) fn early(&self) -> Option<Early> {
        self.early.get().copied()
    }

    /// Asks the attempt to end. Returns the time at which it is dropped.
    pub(crate) fn ask_to_end(&self, early: Early) -> Instant {
        let _ = self.early.set(early);
        self.end.cancel();
        Instant::now() + GRACE
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Extends the lease until the attempt must be dropped. It asks the attempt to end
    /// first, and returns after a grace period. A lost lease leaves no grace period:
    /// another worker may have begun.
    pub(crate) async fn keep_lease(
        &self,
        pool: &PgPool,
        attempt: AttemptKey,
        lease: Duration,
        stop: &CancellationToken,
    ) {
        let every = lease / 3;
        let mut valid_until = Instant::now() + lease;
        let mut drop_at: Option<Instant> = None;
        loop {
            let next = Instant::now() + every;
            tokio::select! {
                () = tokio::time::sleep_until(drop_at.map_or(next, |at| at.min(next))) => {}
                () = stop.cancelled(), if drop_at.is_none() => {
                    drop_at = Some(self.ask_to_end(Early::Stopping));
                    continue;
                }
            }
            if drop_at.is_some_and(|at| Instant::now() >= at) {
                return;
            }
            let begun = Instant::now();
            let progress = self.lock().clone();
            let beat = tokio::time::timeout_at(
                valid_until,
                limited(store::beat(pool, attempt, lease, &progress)),
            );
            match beat.await {
                Ok(Ok(Ok(Beat::Lost))) => return self.lose_lease(),
                Ok(Ok(Ok(beat))) => {
                    valid_until = begun + lease;
                    if beat == Beat::CancelRequested && drop_at.is_none() {
                        drop_at = Some(self.ask_to_end(Early::Cancelled));
                    }
                }
                Ok(Ok(Err(error))) => tracing::warn!(%error, "extending a lease failed; retrying"),
                Ok(Err(_)) | Err(_) => tracing::warn!("extending a lease timed out; retrying"),
            }
            if Instant::now() >= valid_until {
                return self.lose_lease();
            }
        }
    }

    fn lose_lease(&self) {
        tracing::warn!("the lease is lost: the attempt ends");
        self.ask_to_end(Early::LeaseLost);
    }
}
