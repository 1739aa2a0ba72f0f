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
    followed: Arc<Mutex<Followed>>,
    places: CallerPlaces,
}

#[derive(Debug, Default)]
struct Followed {
    senders: HashMap<ReportId, watch::Sender<Seen>>,
    /// Nothing is read any more: a new follower ends at once.
    stopped: bool,
}

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
        Self { followed: Arc::default(), places }
    }
}

impl Watch {
    /// Starts to follow a report for a caller.
    ///
    /// # Errors
    /// [`NotFollowed`]
    pub fn follow(&self, caller: &Caller, id: ReportId) -> Result<Follower, NotFollowed> {
        let mut followed = self.lock();
        if followed.senders.len() >= MAX_REPORTS && !followed.senders.contains_key(&id) {
            return Err(NotFollowed::TooManyReports);
        }
        let place = self.places.take(caller).map_err(NotFollowed::TooManyOfCaller)?;
        let receiver = if followed.stopped {
            // Without a sender.
            watch::channel(Seen::NotRead).1
        } else {
            followed.senders.entry(id).or_default().subscribe()
        };
        Ok(Follower { id, receiver, watch: self.clone(), _place: place })
    }

    /// Reads the followed reports until `stop`. Then every follower ends, also each later one: the
    /// API serves for the drain delay.
    pub async fn poll(self, pool: PgPool, stop: CancellationToken) {
        while sleep_unless_stopped(EVERY, &stop).await {
            let ids: Vec<_> = self.lock().senders.keys().copied().collect();
            if ids.is_empty() {
                continue;
            }
            let read = limited(store::glance(&pool, &ids)).await;
            match read.map_err(Into::into).and_then(|read| read) {
                Ok(glances) => self.notify(&ids, glances),
                Err(error) => tracing::debug!(%error, "reading followed reports failed"),
            }
        }
        let mut followed = self.lock();
        followed.stopped = true;
        followed.senders.clear();
    }

    /// Tells the followers of these reports what was read. A report without a glance is missing.
    fn notify(&self, ids: &[ReportId], glances: Vec<(ReportId, Glance)>) {
        let mut glances: HashMap<_, _> = glances.into_iter().collect();
        let followed = self.lock();
        for id in ids {
            let Some(sender) = followed.senders.get(id) else { continue };
            let seen = glances.remove(id).map_or(Seen::Missing, Seen::Present);
            sender.send_if_modified(|last| {
                let changed = *last != seen;
                *last = seen;
                changed
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
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
        loop {
            // Another follower's read may have come before this follower.
            match &*self.receiver.borrow_and_update() {
                Seen::Present(glance) if !glance.state.is_end() => {}
                Seen::NotRead => {}
                Seen::Present(_) | Seen::Missing => return,
            }
            if self.receiver.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followed = self.watch.lock();
        // The count includes this receiver.
        if followed.senders.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            followed.senders.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::Scopes;
    use futures::FutureExt;
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

    use super::*;
    use crate::job::State;

    fn follow(watch: &Watch, id: ReportId) -> Follower {
        let user_id = "teller".to_owned().try_into().unwrap();
        watch.follow(&Caller { user_id, scopes: Scopes::all(), api_key: None }, id).unwrap()
    }

    #[tokio::test]
    async fn a_follower_of_an_end_that_another_one_has_seen_waits_for_nothing() {
        let watch = Watch::default();
        for end in [Some(State::Succeeded), None] {
            let id = ReportId::new();
            let [mut first, mut late] = [(); 2].map(|()| follow(&watch, id));
            let glance = |state| Glance { state, attempt: 1, step: None, done: None, total: None };
            watch.notify(&[id], vec![(id, glance(State::Running))]);
            assert_eq!(first.ended().now_or_never(), None);
            watch.notify(&[id], end.map(|state| (id, glance(state))).into_iter().collect());
            let mut later = follow(&watch, id);
            for follower in [&mut first, &mut late, &mut later] {
                assert_eq!(follower.ended().now_or_never(), Some(()), "{end:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_follower_that_comes_after_the_stop_ends_at_once() {
        let (watch, stop) = (Watch::default(), CancellationToken::new());
        let id = ReportId::new();
        let mut before = follow(&watch, id);
        stop.cancel();
        let (options, nowhere) = (PgPoolOptions::new(), PgConnectOptions::new_without_pgpass());
        let pool = PgPool::connect_lazy(options, nowhere, EVERY);
        watch.clone().poll(pool, stop).await;
        let mut after = follow(&watch, id);
        for follower in [&mut before, &mut after] {
            assert_eq!(follower.changed().now_or_never(), Some(None));
            assert_eq!(follower.ended().now_or_never(), Some(()));
        }
    }
}
