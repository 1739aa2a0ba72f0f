//! Delivers events: claims due endpoints, and runs a task for each.
//!
//! A replica has a number of places. An endpoint that hangs keeps its place for the time limit of
//! one request; then it is failing, and failing endpoints get a quarter of the places.

mod attempt_span;
mod endpoint;

use std::{sync::Arc, time::Duration};

use account_service::events::EventLog;
use runtime::postgres::{PgPool, limited};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    seal::SealingKeys,
    sender::Sender,
    store::{self, Lane, StoreError},
};

/// Pause between two looks for due endpoints.
const EVERY: Duration = Duration::from_millis(200);
/// Pause after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Delivers events.
#[derive(Debug)]
pub struct Deliveries {
    pub pool: PgPool,
    pub log: EventLog,
    pub sealing: Arc<SealingKeys>,
    pub sender: Sender,
    pub limits: DeliveryLimits,
    /// Told when events are announced.
    pub announced: Arc<Notify>,
}

/// The limits of deliveries.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryLimits {
    /// Endpoints at a time.
    pub places: usize,
    /// Requests at a time to one endpoint.
    pub in_flight: usize,
    /// An endpoint that fails for longer is disabled.
    pub disable_after: Duration,
}

/// The places of endpoints.
struct Places {
    healthy: Arc<Semaphore>,
    failing: Arc<Semaphore>,
}

impl Places {
    fn new(places: usize) -> Self {
        let failing = places.div_ceil(4);
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self {
            healthy: semaphore(places.saturating_sub(failing).max(1)),
            failing: semaphore(failing),
        }
    }

    fn of(&self, lane: Lane) -> &Arc<Semaphore> {
        match lane {
            Lane::Healthy => &self.healthy,
            Lane::Failing => &self.failing,
        }
    }
}

impl Deliveries {
    /// Delivers until `stop`. Then it waits for the requests in flight.
    pub async fn run(self, stop: CancellationToken) {
        let places = Places::new(self.limits.places);
        let deliveries = Arc::new(self);
        let mut tasks = JoinSet::new();
        while !stop.is_cancelled() {
            while let Some(ended) = tasks.try_join_next() {
                note_panic(ended);
            }
            let pause = match deliveries.claim(&places, &mut tasks, &stop).await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "claiming webhook endpoints failed");
                    PAUSE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = deliveries.announced.notified() => {}
                () = sleep(pause) => {}
            }
        }
        while let Some(ended) = tasks.join_next().await {
            note_panic(ended);
        }
    }

    /// Starts a task for each due endpoint, as places are free.
    async fn claim(
        self: &Arc<Self>,
        places: &Places,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        for lane in [Lane::Healthy, Lane::Failing] {
            let semaphore = places.of(lane);
            let free = i64::try_from(semaphore.available_permits()).unwrap_or(i64::MAX);
            if free == 0 {
                continue;
            }
            for endpoint in limited(store::claim(&self.pool, lane, free)).await?? {
                // Only this task takes permits, so one is free.
                let permit = Arc::clone(semaphore).try_acquire_owned();
                let (deliveries, stop) = (Arc::clone(self), stop.clone());
                tasks.spawn(async move {
                    let _permit = permit;
                    let id = endpoint.id;
                    if let Err(error) = deliveries.serve(endpoint, &stop).await {
                        // The lease ends by itself: that is the pause.
                        let error = format!("{error:#}");
                        tracing::warn!(webhook_endpoint = %id, error, "deliveries failed");
                    }
                });
            }
        }
        Ok(())
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a webhook endpoint panicked");
    }
}
