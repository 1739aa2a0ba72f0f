//! Notifies waiting clients once their record is settled.
//!
//! Any replica may settle a record. After the commit, this replica notifies its own
//! clients, and all other replicas over a plain NATS subject without persistence. A
//! lost notification delays a client only until the next poll of the database, twice
//! a second: one statement for all awaited records.
//!
//! The number of awaited records is bounded. A request above the bound is answered
//! without a wait. On shutdown every wait ends within a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::Client;
use contract::{RecordId, subjects::SETTLED};
use futures::StreamExt;
use ledger::Settlement;
use runtime::postgres::PgPool;
use runtime::{failpoint, postgres::limited, tasks::sleep_unless_stopped};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::{bytes::Bytes, sync::CancellationToken};
use uuid::Uuid;

use crate::store;

type Senders = HashMap<RecordId, watch::Sender<Option<Notification>>>;

/// A record's committed settlement.
#[derive(Debug, Clone, Copy)]
pub struct Notification {
    /// The final state.
    pub settlement: Settlement,
    /// The number of an applied movement on its account.
    pub account_seq: Option<i64>,
    /// When it was committed.
    pub at: OffsetDateTime,
}

/// The waiting clients of this process, and the connection to the other replicas.
#[derive(Debug, Clone)]
pub struct Waiters {
    client: Client,
    senders: Arc<Mutex<Senders>>,
    /// Maximum awaited records.
    max_records: usize,
}

/// One client's wait for one record.
#[derive(Debug)]
pub struct Wait {
    record: RecordId,
    receiver: watch::Receiver<Option<Notification>>,
    senders: Arc<Mutex<Senders>>,
}

impl Waiters {
    /// Starts without waiting clients, with at most `max_records` awaited records.
    #[must_use]
    pub fn new(client: Client, max_records: usize) -> Self {
        Self { client, senders: Arc::default(), max_records }
    }

    /// Starts to wait for a record. Call this before reading the record, so that no
    /// notification is missed. `None` if too many records are awaited.
    #[must_use]
    pub fn wait_for(&self, record: RecordId) -> Option<Wait> {
        let mut senders = lock(&self.senders);
        if senders.len() >= self.max_records && !senders.contains_key(&record) {
            return None;
        }
        let sender = senders.entry(record).or_insert_with(|| watch::channel(None).0);
        Some(Wait { record, receiver: sender.subscribe(), senders: Arc::clone(&self.senders) })
    }

    /// Notifies the clients of these records, here and on other replicas. Call this
    /// after the commit.
    pub async fn notify(&self, records: &[(RecordId, Notification)]) {
        if records.is_empty() {
            return;
        }
        self.notify_here(records.iter().map(|(id, notification)| (*id, Some(*notification))));
        failpoint::point("settled.told-here", &records);
        let ids: Vec<u8> = records.iter().flat_map(|(id, _)| id.as_uuid().into_bytes()).collect();
        if let Err(error) = self.client.publish(SETTLED, Bytes::from(ids)).await {
            tracing::debug!(%error, "notifying other replicas failed");
        }
    }

    fn notify_here(&self, records: impl Iterator<Item = (RecordId, Option<Notification>)>) {
        let mut senders = lock(&self.senders);
        for (record, notification) in records {
            if let Some(sender) = senders.remove(&record) {
                sender.send_replace(notification);
            }
        }
    }

    /// Receives the notifications of other replicas until `stop`.
    ///
    /// # Errors
    /// If the subscription fails.
    pub async fn listen(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut notifications = self.client.subscribe(SETTLED).await?;
        while let Some(Some(message)) = stop.run_until_cancelled(notifications.next()).await {
            // 16 bytes per id; a remainder is ignored.
            let ids = message.payload.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok());
            self.notify_here(ids.map(|id| (RecordId::from_uuid(id), None)));
        }
        Ok(())
    }

    /// Polls the awaited records twice a second, until `stop`.
    pub async fn poll(self, pool: PgPool, stop: CancellationToken) {
        const EVERY: Duration = Duration::from_millis(500);
        while sleep_unless_stopped(EVERY, &stop).await {
            let awaited: Vec<_> = lock(&self.senders).keys().copied().collect();
            if awaited.is_empty() {
                continue;
            }
            match limited(store::settled_among(&pool, &awaited)).await {
                Ok(Ok(records)) => self.notify_here(records.into_iter().map(|id| (id, None))),
                Ok(Err(error)) => tracing::debug!(%error, "polling awaited records failed"),
                Err(error) => tracing::debug!(%error, "polling awaited records failed"),
            }
        }
    }
}

impl Wait {
    /// Resolves once the record is settled. Returns the settlement if this replica
    /// settled the record.
    pub async fn settled(&mut self) -> Option<Notification> {
        // An error means that the sender was dropped, after its notification.
        let _ = self.receiver.changed().await;
        *self.receiver.borrow()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut senders = lock(&self.senders);
        // The last waiting client removes the entry. The count includes this receiver.
        if senders.get(&self.record).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.record);
        }
    }
}

fn lock(senders: &Mutex<Senders>) -> MutexGuard<'_, Senders> {
    senders.lock().unwrap_or_else(PoisonError::into_inner)
}
