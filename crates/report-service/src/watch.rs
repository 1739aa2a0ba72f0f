//! Clients that follow a report: `Prefer: wait=N` and server-sent events. One
//! statement reads all followed reports, twice a second, whatever the number of
//! clients.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contract::ReportId;
use runtime::{
    http::{
        bearer::Caller,
        streams::{CallerPlace, CallerPlaces},
    },
    postgres::{PgPool, limited},
    tasks::sleep_unless_stopped,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::{self, Glance};

/// Maximum followed reports.
const MAX_REPORTS: usize = 1000;
/// Maximum followers of a customer.
const MAX_OF_CUSTOMER: usize = 20;
/// The interval between two reads.
const EVERY: Duration = Duration::from_millis(500);

/// The followed reports of this process.
#[derive(Debug, Clone)]
pub struct Watch {
    senders: Arc<Mutex<Senders>>,
    places: CallerPlaces,
}

type Senders = HashMap<ReportId, watch::Sender<Seen>>;

/// The latest read of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    NotRead,
    Present(Glance),
    /// The database does not have the report: a failover has lost it.
    Missing,
}

/// Why a report is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFollowed {
    /// The caller has as many followers as allowed.
    TooManyOfCaller(usize),
    /// This process follows too many reports.
    TooManyReports,
}

/// One client that follows one report.
#[derive(Debug)]
pub struct Follower {
    id: ReportId,
    receiver: watch::Receiver<Seen>,
    watch: Watch,
    _place: CallerPlace,
}

impl Default for Watch {
    fn default() -> Self {
        let places = CallerPlaces::new(MAX_OF_CUSTOMER, MAX_REPORTS);
        Self { senders: Arc::default(), places }
    }
}

impl Watch {
    /// Starts to follow a report for a caller.
    ///
    /// # Errors
    /// [`NotFollowed`]
    pub fn follow(&self, caller: &Caller, id: ReportId) -> Result<Follower, NotFollowed> {
        let mut senders = self.lock();
        if senders.len() >= MAX_REPORTS && !senders.contains_key(&id) {
            return Err(NotFollowed::TooManyReports);
        }
        let place = self.places.take(caller).map_err(NotFollowed::TooManyOfCaller)?;
        let receiver = senders.entry(id).or_default().subscribe();
        Ok(Follower { id, receiver, watch: self.clone(), _place: place })
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
                Ok(glances) => self.notify(&ids, glances),
                Err(error) => tracing::debug!(%error, "reading followed reports failed"),
            }
        }
        self.lock().clear();
    }

    /// Tells the followers of these reports what was read. A report without a glance is missing.
    fn notify(&self, ids: &[ReportId], glances: Vec<(ReportId, Glance)>) {
        let mut glances: HashMap<_, _> = glances.into_iter().collect();
        let senders = self.lock();
        for id in ids {
            let Some(sender) = senders.get(id) else { continue };
            let seen = glances.remove(id).map_or(Seen::Missing, Seen::Present);
            sender.send_if_modified(|last| {
                let changed = *last != seen;
                *last = seen;
                changed
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// The next change. `None` once this process stops, or the database has lost the report.
    pub async fn changed(&mut self) -> Option<Glance> {
        self.receiver.changed().await.ok()?;
        match &*self.receiver.borrow_and_update() {
            Seen::Present(glance) => Some(glance.clone()),
            Seen::NotRead | Seen::Missing => None,
        }
    }

    /// Waits until the report has ended or is lost, or this process stops.
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
