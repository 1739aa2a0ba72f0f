//! Delivers events: claims due endpoints, and runs a task for each.
//!
//! A replica has a number of places, and an endpoint one of them. Endpoints that fail or are slow
//! get a quarter of the places. One that hangs leaves its healthy place to others after two seconds:
//! `places`.

mod attempt_span;
mod endpoint;
mod lease;
mod places;
mod settlement;

use std::{collections::HashMap, sync::Arc, time::Duration};

use account_service::events::EventLog;
use runtime::postgres::{CallError, PgPool, limited};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{lease::LEASE, places::Places};
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
    /// Endpoints at a time. As many more may wait for an answer that takes long.
    pub places: usize,
    /// Requests at a time to one endpoint.
    pub in_flight: usize,
    /// An endpoint that fails for longer is disabled.
    pub disable_after: Duration,
}

/// The tasks of endpoints.
#[derive(Default)]
struct Serving {
    tasks: JoinSet<()>,
    by_endpoint: HashMap<Uuid, AbortHandle>,
}

impl Serving {
    /// Starts the task of an endpoint that was claimed. An earlier task has lost its lease: it ends
    /// here, with its requests.
    fn start(&mut self, endpoint: Uuid, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(task);
        if let Some(earlier) = self.by_endpoint.insert(endpoint, task) {
            earlier.abort();
        }
    }

    /// Forgets the tasks that have ended.
    fn sweep(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            note_panic(ended);
        }
        self.by_endpoint.retain(|_, task| !task.is_finished());
    }

    async fn end(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            note_panic(ended);
        }
    }
}

impl Deliveries {
    /// Delivers until `stop`. Requests in flight have a short time then.
    pub async fn run(self, stop: CancellationToken) {
        let places = Places::new(self.limits.places);
        let deliveries = Arc::new(self);
        let mut serving = Serving::default();
        let mut lost = None;
        while !stop.is_cancelled() {
            serving.sweep();
            let pause = match deliveries.claim(&places, &mut serving, &mut lost, &stop).await {
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
        serving.end().await;
    }

    /// Starts a task for each due endpoint, as places are free. `lost` has the fence and the time of
    /// a claim whose answer was lost: nobody serves its endpoints until their leases end.
    async fn claim(
        self: &Arc<Self>,
        places: &Places,
        serving: &mut Serving,
        lost: &mut Option<(i64, Instant)>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        if let Some((fence, claimed)) = *lost {
            if claimed.elapsed() < LEASE {
                limited(store::end_leases(&self.pool, fence)).await??;
            }
            *lost = None;
        }
        for lane in [Lane::Healthy, Lane::Failing] {
            let free = places.free(lane);
            if free == 0 {
                continue;
            }
            let (fence, claimed) = (rand::random::<i64>(), Instant::now());
            let claim = async { limited(store::claim(&self.pool, lane, free, fence)).await? };
            let endpoints = claim.await.inspect_err(|error| {
                if error.is_transient() && !error.stored_nothing() {
                    *lost = Some((fence, claimed));
                }
            })?;
            for endpoint in endpoints {
                let place = places.take(lane);
                let (deliveries, stop) = (Arc::clone(self), stop.clone());
                let id = endpoint.id;
                serving.start(id, async move {
                    deliveries.take_turn(endpoint, claimed, &place, &stop).await;
                });
            }
        }
        Ok(())
    }
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) =
        ended.or_else(|error| if error.is_cancelled() { Ok(()) } else { Err(error) })
    {
        tracing::error!(%error, "the task of a webhook endpoint panicked");
    }
}
