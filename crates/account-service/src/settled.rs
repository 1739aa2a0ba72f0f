//! Clients that wait for their record, and how they hear of it.
//!
//! Any replica may consume a record's result. Whichever it is knows what it has
//! committed, and tells all others over a plain NATS subject, without
//! persistence, that they may look. A message that is lost only costs a waiting
//! client the time to the next look into the database, which is one statement
//! for all who wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::Client;
use contract::{RecordId, subjects::SETTLED};
use futures::StreamExt;
use runtime::crash;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::{bytes::Bytes, sync::CancellationToken};
use uuid::Uuid;

use crate::{record::Settlement, store};

type Waiters = HashMap<RecordId, watch::Sender<Option<News>>>;
type Waiting = Arc<Mutex<Waiters>>;

/// How a record was settled, as it was committed.
#[derive(Debug, Clone, Copy)]
pub struct News {
    /// What it says now.
    pub settlement: Settlement,
    /// Since when.
    pub at: OffsetDateTime,
}

/// Who waits in this process, and the line to the other replicas.
#[derive(Debug, Clone)]
pub struct Settled {
    client: Client,
    waiting: Waiting,
    /// Records that may be waited for at the same time.
    most: usize,
}

/// One client's wait for one record.
#[derive(Debug)]
pub struct Wait {
    record: RecordId,
    news: watch::Receiver<Option<News>>,
    waiting: Waiting,
}

impl Settled {
    /// Nobody waits yet; at most `most` records may be waited for at a time.
    #[must_use]
    pub fn new(client: Client, most: usize) -> Self {
        Self { client, waiting: Waiting::default(), most }
    }

    /// Begins to wait for a record; before it is looked at, so that no news is
    /// missed. `None` if too many wait already.
    #[must_use]
    pub fn wait_for(&self, record: RecordId) -> Option<Wait> {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= self.most && !waiting.contains_key(&record) {
            return None;
        }
        let news = waiting.entry(record).or_insert_with(|| watch::channel(None).0).subscribe();
        Some(Wait { record, news, waiting: Arc::clone(&self.waiting) })
    }

    /// Tells everybody who waits for these records, here and on other
    /// replicas. Call it after the commit.
    pub async fn tell(&self, records: &[(RecordId, News)]) {
        if records.is_empty() {
            return;
        }
        self.tell_here(records.iter().map(|(id, news)| (*id, Some(*news))));
        crash::point("settled.told-here", &records);
        let ids: Vec<u8> = records.iter().flat_map(|(id, _)| id.as_uuid().into_bytes()).collect();
        if let Err(error) = self.client.publish(SETTLED, Bytes::from(ids)).await {
            tracing::debug!(%error, "other replicas were not told");
        }
    }

    fn tell_here(&self, records: impl Iterator<Item = (RecordId, Option<News>)>) {
        let mut waiting = lock(&self.waiting);
        for (record, news) in records {
            if let Some(sender) = waiting.remove(&record) {
                sender.send_replace(news);
            }
        }
    }

    /// Listens to the other replicas until `stop`.
    ///
    /// # Errors
    /// If the subject can't be subscribed to.
    pub async fn listen(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut news = self.client.subscribe(SETTLED).await?;
        while let Some(Some(message)) = stop.run_until_cancelled(news.next()).await {
            // 16 bytes an id; a remainder is nobody's.
            let ids = message.payload.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok());
            self.tell_here(ids.map(|id| (RecordId::from_uuid(id), None)));
        }
        Ok(())
    }
}

impl Wait {
    /// Resolves when somebody says that the record is settled, with what it
    /// says now if that is known here.
    pub async fn news(&mut self) -> Option<News> {
        // An error means that the sender is gone, after telling.
        let _ = self.news.changed().await;
        *self.news.borrow()
    }
}

/// Looks twice a second which of the records that are waited for are settled,
/// until `stop`.
///
/// # Errors
/// None; the type is that of an owned task.
pub async fn look(settled: Settled, pool: PgPool, stop: CancellationToken) -> anyhow::Result<()> {
    const EVERY: Duration = Duration::from_millis(500);
    const LONGEST_LOOK: Duration = Duration::from_secs(15);
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let waiting: Vec<_> = lock(&settled.waiting).keys().copied().collect();
        if waiting.is_empty() {
            continue;
        }
        let look = store::settled_among(&pool, &waiting);
        match tokio::time::timeout(LONGEST_LOOK, look).await {
            Ok(Ok(records)) => settled.tell_here(records.into_iter().map(|id| (id, None))),
            Ok(Err(error)) => tracing::debug!(%error, "looking for settled records"),
            Err(_) => tracing::debug!("looking for settled records: no answer"),
        }
    }
    Ok(())
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiting);
        // The last one to wait clears up; this receiver is still counted.
        if waiting.get(&self.record).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.record);
        }
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, Waiters> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
