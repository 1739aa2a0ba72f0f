//! Announces new events to the endpoints that get them. One reader of the log for all endpoints:
//! an idle endpoint costs nothing.
//!
//! No transaction is open while the log is read: it would delay the horizon, which waits for
//! transactions. If two replicas read the same events, the second one announces nothing.
//!
//! An endpoint whose row another transaction holds gets its announcement once the row is free. The
//! others do not wait for it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use account_service::events::{EventFilter, EventLog, Source};
use runtime::{
    postgres::{PgPool, limited},
    tasks::sleep_unless_stopped,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::store::{self, Announced, StoreError};

/// Pause between two reads of the log.
const EVERY: Duration = Duration::from_millis(200);
/// Pause after an error.
const PAUSE: Duration = Duration::from_secs(1);
/// Events of one announcement.
const BATCH: u16 = 500;

/// Announces events.
#[derive(Debug)]
pub struct Fanout {
    pub pool: PgPool,
    pub log: EventLog,
    /// Told after each announcement.
    pub announced: Arc<Notify>,
}

impl Fanout {
    /// Announces events until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.run_once().await {
                Ok(true) => continue,
                Ok(false) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "announcing events to webhook endpoints failed");
                    PAUSE
                }
            };
            sleep_unless_stopped(pause, &stop).await;
        }
    }

    /// Announces one batch. Returns whether there is more.
    ///
    /// # Errors
    /// [`StoreError`]. The batch may be announced nevertheless.
    pub async fn run_once(&self) -> Result<bool, StoreError> {
        let Announced { position: from, has_late } =
            limited(store::find_announced(&self.pool)).await??;
        if has_late && limited(store::announce_late(&self.pool)).await?? > 0 {
            self.announced.notify_one();
        }
        let all = EventFilter { source: Source::All, kind: None };
        let page = self.log.read(&all, from, BATCH).await?;
        // The log is read up to an event.
        let Some(newest) = &page.last else { return Ok(false) };
        // The events ascend, so the last one of an owner counts.
        let last: HashMap<_, _> =
            page.events.iter().map(|event| (event.owner.as_str(), event.position)).collect();
        let owners: Vec<_> = last.keys().map(|owner| (*owner).to_owned()).collect();
        let positions: Vec<_> = last.values().copied().collect();
        let announce = store::announce(&self.pool, from, newest.into(), &owners, &positions);
        if !limited(announce).await?? {
            return Ok(false);
        }
        if !page.events.is_empty() {
            self.announced.notify_one();
        }
        Ok(page.has_more)
    }
}
