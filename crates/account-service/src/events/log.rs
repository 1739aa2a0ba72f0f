//! Reads the event log: what a caller may see of it, page by page.

use std::{collections::HashMap, sync::Arc};

use contract::{AccountId, UserId};
use runtime::postgres::{PgPool, limited};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::{EventIds, EventKind, LoggedEvent, horizon::Horizon};
use crate::{
    record::Record,
    store::{self, Account, LogRange, StoreError},
};

/// Events that one statement reads to find those of a type.
const CHUNK: u16 = 500;
/// Concurrent reads. The pool's other connections are for requests that move money.
const MAX_READS: usize = 2;
/// Statements for one page. After them, the page ends early.
const MAX_CHUNKS: usize = 10;

/// The event log of this replica's database.
#[derive(Debug, Clone)]
pub struct EventLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    horizon: Horizon,
    ids: OnceCell<EventIds>,
    permits: Semaphore,
}

/// The accounts whose events are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    All,
    Owner(UserId),
    Account(AccountId),
}

/// The events that a reader asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter {
    pub source: Source,
    /// `None`: all types.
    pub kind: Option<EventKind>,
}

impl EventFilter {
    /// Whether the event is one of these.
    #[must_use]
    pub fn includes(&self, event: &LoggedEvent) -> bool {
        let from_source = match &self.source {
            Source::All => true,
            Source::Owner(owner) => event.owner == *owner,
            Source::Account(account) => event.account == *account,
        };
        from_source && self.is_of_kind(event)
    }

    fn is_of_kind(&self, event: &LoggedEvent) -> bool {
        self.kind.is_none_or(|kind| kind == event.kind)
    }
}

/// What an event tells.
#[derive(Debug)]
pub enum EventDetail {
    /// The settled record.
    Record(Record),
    /// The account as it is now.
    Account(Account),
}

/// A part of the log.
#[derive(Debug, Default)]
pub struct EventPage {
    pub events: Vec<LoggedEvent>,
    /// The last event that was read, also if it is of another type.
    pub last: Option<LoggedEvent>,
    /// The log is read up to this position.
    pub through: i64,
    /// Whether there are more events now.
    pub has_more: bool,
}

impl EventLog {
    /// The log in this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let horizon = Horizon::new(pool.clone());
        let (ids, permits) = (OnceCell::new(), Semaphore::new(MAX_READS));
        Self(Arc::new(Inner { pool, horizon, ids, permits }))
    }

    /// How far the log can be read.
    #[must_use]
    pub fn horizon(&self) -> &Horizon {
        &self.0.horizon
    }

    /// The maker of ids.
    ///
    /// # Errors
    /// [`StoreError`], if the key was not read before.
    pub async fn ids(&self) -> Result<&EventIds, StoreError> {
        let read = || async {
            let key = limited(store::find_event_id_key(&self.0.pool)).await??;
            Ok::<_, StoreError>(EventIds::new(&key))
        };
        self.0.ids.get_or_try_init(read).await
    }

    /// The event that a cursor names, if it is valid: `Some(None)` before the first event.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn find(&self, cursor: &str) -> Result<Option<Option<LoggedEvent>>, StoreError> {
        let ids = self.ids().await?;
        let Some(claimed) = ids.read(cursor) else { return Ok(None) };
        if ids.is_origin(claimed) {
            return Ok(Some(None));
        }
        let event = limited(store::find_event(&self.0.pool, claimed.position)).await??;
        Ok(event.filter(|event| ids.is_of(claimed, event)).map(Some))
    }

    /// Up to `limit` events after a position, in order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn read(
        &self,
        filter: &EventFilter,
        after: i64,
        limit: u16,
    ) -> Result<EventPage, StoreError> {
        let to = self.0.horizon.advance().await?;
        self.read_to(filter, after, to, limit).await
    }

    /// As [`EventLog::read`], up to a horizon that the caller knows.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn read_to(
        &self,
        filter: &EventFilter,
        after: i64,
        to: i64,
        limit: u16,
    ) -> Result<EventPage, StoreError> {
        let _permit = self.permit().await?;
        let mut page = EventPage { through: after, ..EventPage::default() };
        // One more shows whether there are more.
        let one_more = limit.saturating_add(1);
        let chunk = if filter.kind.is_some() { one_more.max(CHUNK) } else { one_more };
        for _ in 0..MAX_CHUNKS {
            let range = LogRange { after: page.through, to, limit: chunk };
            let events = limited(self.chunk(&filter.source, range)).await??;
            let is_last = events.len() < usize::from(chunk);
            for event in events {
                if filter.is_of_kind(&event) {
                    if page.events.len() == usize::from(limit) {
                        page.has_more = true;
                        return Ok(page);
                    }
                    page.events.push(event.clone());
                }
                page.through = event.position;
                page.last = Some(event);
            }
            if is_last {
                page.through = page.through.max(to);
                return Ok(page);
            }
        }
        page.has_more = true;
        Ok(page)
    }

    /// What the events tell, in their order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn details(&self, events: &[LoggedEvent]) -> Result<Vec<EventDetail>, StoreError> {
        let _permit = self.permit().await?;
        let records: Vec<_> = events.iter().filter_map(|event| event.record).collect();
        let opened = events.iter().filter(|event| event.record.is_none());
        let opened: Vec<_> = opened.map(|event| event.account).collect();
        let pool = &self.0.pool;
        let mut records = match &records[..] {
            [] => HashMap::new(),
            ids => limited(store::find_records(pool, ids)).await??,
        };
        let accounts = match &opened[..] {
            [] => HashMap::new(),
            ids => limited(store::find_accounts(pool, ids)).await??,
        };
        let detail = |event: &LoggedEvent| -> Result<EventDetail, StoreError> {
            let missing = || StoreError::InvalidRow(format!("event {}", event.position));
            match event.record {
                Some(id) => Ok(EventDetail::Record(records.remove(&id).ok_or_else(missing)??)),
                None => {
                    let account = accounts.get(&event.account).ok_or_else(missing)?;
                    Ok(EventDetail::Account(account.clone()))
                }
            }
        };
        events.iter().map(detail).collect()
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.0.permits.acquire().await.map_err(|_| StoreError::Stopped)
    }

    async fn chunk(
        &self,
        source: &Source,
        range: LogRange,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let pool = &self.0.pool;
        match source {
            Source::All => store::list_events(pool, range).await,
            Source::Owner(owner) => store::list_events_of_owner(pool, owner, range).await,
            Source::Account(account) => store::list_events_of_account(pool, *account, range).await,
        }
    }
}
