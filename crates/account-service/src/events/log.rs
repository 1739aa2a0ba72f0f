//! Reads the event log: what a caller may see of it, page by page.

use std::{collections::HashMap, sync::Arc};

use contract::{AccountId, UserId};
use quick_cache::sync::Cache;
use runtime::postgres::{PgPool, limited};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::{
    EventIds, EventKind, LoggedEvent,
    event_id::Claimed,
    horizon::{Horizon, Reached},
};
use crate::{
    places::{Place, Places},
    record::Record,
    store::{self, Account, LogRange, StoreError},
};

/// Events that one statement reads to find those of a type or of an owner.
const CHUNK: u16 = 500;
/// The same account by account: a statement may read so many events of as many accounts.
const CHUNK_BY_ACCOUNT: u16 = 100;
/// An owner of more accounts gets events by position, among those of others: a statement would look
/// up each account.
const MANY_ACCOUNTS: u16 = 1000;
/// Concurrent reads. The pool's other connections are for requests that move money.
const MAX_READS: usize = 2;
/// Concurrent reads of one caller.
const READS_OF_CALLER: usize = 1;
/// Maximum owners of accounts that are kept, some 100 bytes each.
const OWNERS: usize = 50_000;
/// Statements for one page. After them, the page ends early.
const MAX_CHUNKS: usize = 10;

/// The event log of this replica's database.
#[derive(Debug, Clone)]
pub struct EventLog {
    inner: Arc<Inner>,
    permits: Arc<Semaphore>,
    /// Whose reads wait for each other.
    caller: Option<UserId>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    horizon: Horizon,
    ids: OnceCell<EventIds>,
    places: Places,
    /// The owners of accounts. They never change.
    owners: Cache<AccountId, UserId>,
}

/// A turn to read.
pub(crate) struct Turn<'a> {
    _place: Option<Place>,
    _permit: SemaphorePermit<'a>,
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
        from_source && self.kind.is_none_or(|kind| kind == event.kind)
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
    /// The last event that was read, also if it is of another type, or, for an owner of many
    /// accounts, of another owner.
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
        let (horizon, ids) = (Horizon::new(pool.clone()), OnceCell::new());
        let places = Places::new(READS_OF_CALLER);
        let owners = Cache::new(OWNERS);
        let inner = Arc::new(Inner { pool, horizon, ids, places, owners });
        Self { inner, permits: Arc::new(Semaphore::new(MAX_READS)), caller: None }
    }

    /// The log in this database, with these ids.
    #[cfg(test)]
    pub(crate) fn with_ids(pool: PgPool, ids: EventIds) -> Self {
        let log = Self::new(pool);
        let _ = log.inner.ids.set(ids);
        log
    }

    /// The same log for a reader whom no other one keeps waiting.
    #[must_use]
    pub fn with_own_permit(&self) -> Self {
        Self { permits: Arc::new(Semaphore::new(1)), ..self.clone() }
    }

    /// The same log for the requests of this caller. They take turns, so that many of them take no
    /// turns of others.
    #[must_use]
    pub fn of_caller(&self, caller: &UserId) -> Self {
        Self { caller: Some(caller.clone()), ..self.clone() }
    }

    /// How far the log can be read.
    #[must_use]
    pub fn horizon(&self) -> &Horizon {
        &self.inner.horizon
    }

    /// The maker of ids.
    ///
    /// # Errors
    /// [`StoreError`], if the key was not read before.
    pub async fn ids(&self) -> Result<&EventIds, StoreError> {
        let read = || async {
            let key = limited(store::find_event_id_key(&self.inner.pool)).await??;
            Ok::<_, StoreError>(EventIds::new(&key))
        };
        self.inner.ids.get_or_try_init(read).await
    }

    /// The event with this id, if it is valid: `Some(None)` before the first event.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn find(&self, id: &str) -> Result<Option<Option<LoggedEvent>>, StoreError> {
        self.find_valid(id, EventIds::is_of).await
    }

    /// The event behind which a reader goes on with this cursor: one that it may see, or the last
    /// one that was read for it. `Some(None)` before the first event.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn find_cursor(
        &self,
        cursor: &str,
        reader: &UserId,
        may_see: impl Fn(&LoggedEvent) -> bool,
    ) -> Result<Option<Option<LoggedEvent>>, StoreError> {
        let is_valid = |ids: &EventIds, claimed: Claimed, event: &LoggedEvent| {
            (ids.is_of(claimed, event) && may_see(event))
                || ids.is_cursor_of(claimed, reader, event)
        };
        self.find_valid(cursor, is_valid).await
    }

    async fn find_valid(
        &self,
        cursor: &str,
        is_valid: impl Fn(&EventIds, Claimed, &LoggedEvent) -> bool,
    ) -> Result<Option<Option<LoggedEvent>>, StoreError> {
        let ids = self.ids().await?;
        let Some(claimed) = ids.read(cursor) else { return Ok(None) };
        if ids.is_origin(claimed) {
            return Ok(Some(None));
        }
        let event = limited(store::find_event(&self.inner.pool, claimed.position)).await??;
        Ok(event.filter(|event| is_valid(ids, claimed, event)).map(Some))
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
        let reached = self.inner.horizon.advance().await?;
        self.read_reached(filter, after, reached, limit).await
    }

    /// As [`EventLog::read`], up to a horizon that the caller knows. Nothing is read from a database
    /// that lacks the event there.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn read_reached(
        &self,
        filter: &EventFilter,
        after: i64,
        reached: Reached,
        limit: u16,
    ) -> Result<EventPage, StoreError> {
        let to = LogRange { after, to: reached.position, known: reached.event, limit };
        self.read_range(filter, to).await
    }

    /// As [`EventLog::read`], up to a position that the database itself has as safe.
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
        self.read_range(filter, LogRange { after, to, known: None, limit }).await
    }

    async fn read_range(
        &self,
        filter: &EventFilter,
        asked: LogRange,
    ) -> Result<EventPage, StoreError> {
        let LogRange { after, to, limit, .. } = asked;
        let _turn = self.turn().await?;
        let mut page = EventPage { through: after, ..EventPage::default() };
        let source = self.read_source(&filter.source).await?;
        // One more shows whether there are more.
        let one_more = limit.saturating_add(1);
        let chunk = match source {
            Source::Owner(_) if filter.kind.is_some() => one_more.max(CHUNK_BY_ACCOUNT),
            _ if filter.kind.is_some() || *source != filter.source => one_more.max(CHUNK),
            _ => one_more,
        };
        for _ in 0..MAX_CHUNKS {
            let range = LogRange { after: page.through, limit: chunk, ..asked };
            let events = limited(self.chunk(source, range)).await??;
            let is_last = events.len() < usize::from(chunk);
            for event in events {
                if filter.includes(&event) {
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
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let _turn = self.turn().await?;
        let records: Vec<_> = events.iter().filter_map(|event| event.record).collect();
        let opened = events.iter().filter(|event| event.record.is_none());
        let opened: Vec<_> = opened.map(|event| event.account).collect();
        let pool = &self.inner.pool;
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

    /// Where to read the events of this source: those of an owner of many accounts among all.
    async fn read_source<'a>(&self, source: &'a Source) -> Result<&'a Source, StoreError> {
        let Source::Owner(owner) = source else { return Ok(source) };
        let has_many = store::has_more_accounts(&self.inner.pool, owner, MANY_ACCOUNTS);
        Ok(if limited(has_many).await?? { &Source::All } else { source })
    }

    /// The caller's place comes first: requests that wait for it take no permit.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, StoreError> {
        let place = match &self.caller {
            Some(caller) => self.inner.places.take(caller).await,
            None => None,
        };
        let permit = self.permits.acquire().await.map_err(|_| StoreError::Stopped)?;
        Ok(Turn { _place: place, _permit: permit })
    }

    async fn chunk(
        &self,
        source: &Source,
        range: LogRange,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let pool = &self.inner.pool;
        match source {
            Source::All => self.chunk_of_all(range).await,
            Source::Owner(owner) => store::list_events_of_owner(pool, owner, range).await,
            Source::Account(account) => store::list_events_of_account(pool, *account, range).await,
        }
    }

    /// Events of all accounts. Owners that are not known yet are read.
    async fn chunk_of_all(&self, range: LogRange) -> Result<Vec<LoggedEvent>, StoreError> {
        let Inner { pool, owners, .. } = &*self.inner;
        let events = store::list_events(pool, range).await?;
        let mut known = HashMap::new();
        let mut unknown = Vec::new();
        for event in &events {
            let account = event.account();
            match owners.get(&account) {
                Some(owner) => drop(known.insert(account, owner)),
                None => unknown.push(account),
            }
        }
        if !unknown.is_empty() {
            for (account, found) in store::find_owners(pool, &unknown).await? {
                let (owner, _) = found?;
                owners.insert(account, owner.clone());
                known.insert(account, owner);
            }
        }
        let owned = events.into_iter().map(|event| {
            let missing = || StoreError::InvalidRow(format!("account {}", event.account()));
            let owner = known.get(&event.account()).cloned().ok_or_else(missing)?;
            event.owned_by(owner)
        });
        owned.collect()
    }
}
