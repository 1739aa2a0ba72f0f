//! Reads new events once for all streams of this replica, while there are any, and hands each
//! stream its own. Events that no stream gets are not rendered, and a stream is woken by its own
//! events only: a thousand streams of accounts without movements cost little.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use runtime::tasks::sleep_unless_stopped;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    stream::frame,
    subscribers::{Subscribers, Subscription},
};
use crate::{
    events::{EventFilter, EventLog, LoggedEvent, Source, horizon::Reached},
    store::StoreError,
};

/// Pause between two reads.
const EVERY: Duration = Duration::from_millis(50);
/// Pause after an error.
const PAUSE: Duration = Duration::from_secs(1);
/// Maximum events of a batch.
const BATCH: u16 = 500;

/// What a stream is told.
#[derive(Debug)]
pub(super) enum News {
    /// Its events, each with its position. It has all events up to `through` then.
    Events { through: i64, events: Vec<(i64, Bytes)> },
    /// Some of its events may not be told: it has to read them.
    Behind,
    /// The database has lost events: the stream ends.
    Lost,
}

/// The new events of the log, for streams.
#[derive(Debug, Clone)]
pub struct EventTail {
    log: EventLog,
    subscribers: Subscribers,
    first: Arc<Notify>,
}

impl EventTail {
    /// The tail of this log. [`EventTail::run`] reads it, and waits for no other reader.
    #[must_use]
    pub fn new(log: &EventLog) -> Self {
        Self {
            log: log.with_own_permit(),
            subscribers: Subscribers::default(),
            first: Arc::default(),
        }
    }

    /// The events from now on. Those that were read before this call are below the horizon of any
    /// page that is read after it.
    pub(super) fn subscribe(&self, filter: &EventFilter) -> Subscription {
        let subscription = self.subscribers.add(filter);
        self.first.notify_one();
        subscription
    }

    /// Reads until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut read = None;
        while !stop.is_cancelled() {
            if self.subscribers.is_empty() {
                read = None;
                let _ = stop.run_until_cancelled(self.first.notified()).await;
                continue;
            }
            let pause = match self.step(&mut read).await {
                Ok(true) => continue,
                Ok(false) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "reading events for streams failed");
                    PAUSE
                }
            };
            sleep_unless_stopped(pause, &stop).await;
        }
    }

    /// Hands out one batch, unless there is nothing new. Returns whether there is more.
    async fn step(&self, read: &mut Option<Reached>) -> Result<bool, StoreError> {
        let now = self.log.horizon().advance().await?;
        let Some(before) = *read else {
            // A stream may have read a page that ends before this position.
            self.subscribers.tell_all(|| News::Behind);
            *read = Some(now);
            return Ok(false);
        };
        // Another reader may have found the loss.
        if now.losses != before.losses {
            self.subscribers.tell_all(|| News::Lost);
            *read = None;
            return Ok(false);
        }
        let all = EventFilter { source: Source::All, kind: None };
        let page = self.log.read_reached(&all, before.position, now, BATCH).await?;
        if page.through > before.position {
            // A stream that subscribes later reads pages up to this horizon or a later one.
            let (wanted, readers): (Vec<_>, Vec<_>) =
                self.subscribers.readers(page.events).into_iter().unzip();
            let frames = self.frames(&wanted).await?;
            let events = wanted.iter().map(|event| event.position).zip(frames);
            let passed = page.last.map(|last| (last, now.losses));
            self.subscribers.hand_out(page.through, passed, events.zip(readers));
            *read = Some(Reached { position: page.through, ..now });
        }
        Ok(page.has_more)
    }

    async fn frames(&self, events: &[LoggedEvent]) -> Result<Vec<Bytes>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let details = self.log.details(events).await?;
        let ids = self.log.ids().await?;
        Ok(events.iter().zip(&details).map(|(event, detail)| frame(ids, event, detail)).collect())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use runtime::postgres::{CALL_LIMIT, PgPool};
    use sqlx::postgres::PgPoolOptions;

    use super::*;

    #[tokio::test]
    async fn the_tail_waits_for_no_other_reader() {
        let nowhere = "postgres://127.0.0.1:1/none".parse().unwrap();
        let log = EventLog::new(PgPool::connect_lazy(PgPoolOptions::new(), nowhere, CALL_LIMIT));
        let _all = [log.turn().await.unwrap(), log.turn().await.unwrap()];
        assert!(log.turn().now_or_never().is_none());
        let tail = EventTail::new(&log);
        assert!(tail.log.turn().now_or_never().is_some());
    }
}
