//! Clients that follow a report: `Prefer: wait=N` and server-sent events. One
//! statement reads all followed reports, twice a second, whatever the number of
//! clients.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contract::ReportId;
use runtime::postgres::PgPool;
use runtime::{postgres::limited, tasks::sleep_unless_stopped};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::{self, Glance};

type Senders = HashMap<ReportId, watch::Sender<Option<Glance>>>;

/// The followed reports of this process.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<Senders>>);

/// Maximum followed reports.
const MAX_REPORTS: usize = 1000;
/// The interval between two reads.
const EVERY: Duration = Duration::from_millis(500);

/// One client that follows one report.
#[derive(Debug)]
pub struct Follower {
    id: ReportId,
    receiver: watch::Receiver<Option<Glance>>,
    watch: Watch,
}

impl Watch {
    /// Starts to follow a report. `None` if too many reports are followed.
    #[must_use]
    pub fn follow(&self, id: ReportId) -> Option<Follower> {
        let mut senders = self.lock();
        if senders.len() >= MAX_REPORTS && !senders.contains_key(&id) {
            return None;
        }
        let sender = senders.entry(id).or_insert_with(|| watch::channel(None).0);
        Some(Follower { id, receiver: sender.subscribe(), watch: self.clone() })
    }

    /// Reads the followed reports until `stop`. Then every follower ends.
    pub async fn poll(self, pool: PgPool, stop: CancellationToken) {
        while sleep_unless_stopped(EVERY, &stop).await {
            let ids: Vec<_> = self.lock().keys().copied().collect();
            if ids.is_empty() {
                continue;
            }
            let read = limited(store::glance(&pool, &ids)).await;
            match read.map_err(Into::into).and_then(|read| read) {
                Ok(glances) => self.notify(glances),
                Err(error) => tracing::debug!(%error, "reading followed reports failed"),
            }
        }
        self.lock().clear();
    }

    fn notify(&self, glances: Vec<(ReportId, Glance)>) {
        let senders = self.lock();
        for (id, glance) in glances {
            if let Some(sender) = senders.get(&id) {
                sender.send_if_modified(|last| {
                    let changed = last.as_ref() != Some(&glance);
                    *last = Some(glance);
                    changed
                });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// The next change. `None` once this process stops.
    pub async fn changed(&mut self) -> Option<Glance> {
        self.receiver.changed().await.ok()?;
        self.receiver.borrow_and_update().clone()
    }

    /// Waits until the report has ended, or this process stops.
    pub async fn ended(&mut self) {
        while let Some(glance) = self.changed().await {
            if glance.state.is_end() {
                return;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut senders = self.watch.lock();
        // The count includes this receiver.
        if senders.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.id);
        }
    }
}
