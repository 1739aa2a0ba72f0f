//! Reads new events once for all streams of this replica, while there are any.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use runtime::tasks::sleep_unless_stopped;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use super::stream::frame;
use crate::{
    events::{EventFilter, EventLog, LoggedEvent, Source},
    store::StoreError,
};

/// Pause between two reads.
const EVERY: Duration = Duration::from_millis(50);
/// Pause after an error.
const PAUSE: Duration = Duration::from_secs(1);
/// Maximum events of a batch.
const BATCH: u16 = 200;
/// Batches that a slow stream may be behind. Then it reads pages of its own.
const BATCHES: usize = 32;

/// The position of a batch that ends all streams: the database has lost events.
pub(super) const LOST: i64 = -1;

/// New events: all above one position, up to another.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) after: i64,
    pub(super) through: i64,
    pub(super) events: Vec<(LoggedEvent, Bytes)>,
}

/// The new events of the log, for streams.
#[derive(Debug, Clone)]
pub struct EventTail {
    log: EventLog,
    sender: broadcast::Sender<Arc<Batch>>,
    first: Arc<Notify>,
}

impl EventTail {
    /// The tail of this log. [`EventTail::run`] reads it.
    #[must_use]
    pub fn new(log: EventLog) -> Self {
        let (sender, _) = broadcast::channel(BATCHES);
        Self { log, sender, first: Arc::default() }
    }

    /// The batches from now on. The first one may begin later than a page that was read before;
    /// never later than one that is read afterwards.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        let receiver = self.sender.subscribe();
        self.first.notify_one();
        receiver
    }

    /// Reads until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut position = None;
        while !stop.is_cancelled() {
            if self.sender.receiver_count() == 0 {
                position = None;
                let _ = stop.run_until_cancelled(self.first.notified()).await;
                continue;
            }
            let pause = match self.step(&mut position).await {
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

    /// Sends one batch, unless there is nothing new. Returns whether there is more.
    async fn step(&self, position: &mut Option<i64>) -> Result<bool, StoreError> {
        let now = self.log.horizon().advance().await?;
        let Some(after) = *position else {
            // An empty batch: a stream that has read up to here goes on, others read a page.
            self.send(now, now, Vec::new());
            *position = Some(now);
            return Ok(false);
        };
        if now < after {
            self.send(LOST, LOST, Vec::new());
            *position = None;
            return Ok(false);
        }
        let all = EventFilter { source: Source::All, kind: None };
        let page = self.log.read_to(&all, after, now, BATCH).await?;
        if page.through > after {
            let details = self.log.details(&page.events).await?;
            let ids = self.log.ids().await?;
            let frames = page.events.into_iter().zip(&details);
            let events = frames.map(|(event, detail)| {
                let frame = frame(ids, &event, detail);
                (event, frame)
            });
            self.send(after, page.through, events.collect());
            *position = Some(page.through);
        }
        Ok(page.has_more)
    }

    fn send(&self, after: i64, through: i64, events: Vec<(LoggedEvent, Bytes)>) {
        // An error means that the last stream has ended.
        let _ = self.sender.send(Arc::new(Batch { after, through, events }));
    }
}
