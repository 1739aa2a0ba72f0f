//! The streams of this replica by the events that they get.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::Bytes;
use contract::{AccountId, UserId};
use tokio::sync::mpsc;

use super::tail::News;
use crate::events::{EventFilter, LoggedEvent, Source};

/// News that a slow stream may be behind. Then its subscription ends, and it reads pages of its
/// own.
const WAITING: usize = 32;

/// The number of a stream.
type Reader = u64;

/// The streams that are told of new events.
#[derive(Debug, Clone, Default)]
pub(super) struct Subscribers(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    last: Reader,
    streams: HashMap<Reader, Subscriber>,
    of_all: Vec<Reader>,
    of_owners: HashMap<UserId, Vec<Reader>>,
    of_accounts: HashMap<AccountId, Vec<Reader>>,
    /// The last event of all that were handed out, and the losses of the log before.
    passed: Option<(LoggedEvent, u64)>,
}

#[derive(Debug)]
struct Subscriber {
    filter: EventFilter,
    sender: mpsc::Sender<News>,
}

/// The news of one stream. It ends with this.
#[derive(Debug)]
pub(super) struct Subscription {
    reader: Reader,
    subscribers: Subscribers,
    news: mpsc::Receiver<News>,
}

impl Subscription {
    /// The next news; `None` if the stream was too slow: it has to subscribe again.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// The last event of the log that needs no more news, after so many losses: all that this
    /// stream gets up to there were received. Only for a stream of all accounts: of another one, it
    /// would tell when others move.
    pub(super) fn passed(&self, losses: u64) -> Option<LoggedEvent> {
        let registry = self.subscribers.lock();
        let subscriber = registry.streams.get(&self.reader)?;
        let may_pass = subscriber.filter.source == Source::All && self.news.is_empty();
        let passed = registry.passed.as_ref().filter(|(_, before)| may_pass && *before == losses);
        passed.map(|(event, _)| event.clone())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscribers.lock().remove(self.reader);
    }
}

impl Subscribers {
    pub(super) fn add(&self, filter: &EventFilter) -> Subscription {
        let (sender, news) = mpsc::channel(WAITING);
        let mut registry = self.lock();
        registry.last += 1;
        let reader = registry.last;
        registry.of(&filter.source).push(reader);
        registry.streams.insert(reader, Subscriber { filter: filter.clone(), sender });
        drop(registry);
        Subscription { reader, subscribers: self.clone(), news }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().streams.is_empty()
    }

    /// The events that a stream gets, each with its streams.
    pub(super) fn readers(&self, events: Vec<LoggedEvent>) -> Vec<(LoggedEvent, Vec<Reader>)> {
        let registry = self.lock();
        let with_readers = events.into_iter().map(|event| {
            let readers = registry.readers(&event);
            (event, readers)
        });
        with_readers.filter(|(_, readers)| !readers.is_empty()).collect()
    }

    /// Tells each stream its events. They have all events up to `through` then, of which the last
    /// one has passed.
    pub(super) fn hand_out(
        &self,
        through: i64,
        passed: Option<(LoggedEvent, u64)>,
        events: impl Iterator<Item = ((i64, Bytes), Vec<Reader>)>,
    ) {
        let mut own = HashMap::<Reader, Vec<(i64, Bytes)>>::new();
        for (event, readers) in events {
            for reader in readers {
                own.entry(reader).or_default().push(event.clone());
            }
        }
        let mut registry = self.lock();
        for (reader, events) in own {
            registry.tell(reader, News::Events { through, events });
        }
        registry.passed = passed.or_else(|| registry.passed.take());
    }

    /// Tells every stream the same.
    pub(super) fn tell_all(&self, news: impl Fn() -> News) {
        let mut registry = self.lock();
        let readers: Vec<_> = registry.streams.keys().copied().collect();
        for reader in readers {
            registry.tell(reader, news());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// The streams with this source.
    fn of(&mut self, source: &Source) -> &mut Vec<Reader> {
        match source {
            Source::All => &mut self.of_all,
            Source::Owner(owner) => self.of_owners.entry(owner.clone()).or_default(),
            Source::Account(account) => self.of_accounts.entry(*account).or_default(),
        }
    }

    fn readers(&self, event: &LoggedEvent) -> Vec<Reader> {
        let lists = [
            Some(&self.of_all),
            self.of_owners.get(&event.owner),
            self.of_accounts.get(&event.account),
        ];
        let readers = lists.into_iter().flatten().flatten();
        let gets = |reader: &Reader| {
            self.streams.get(reader).is_some_and(|stream| stream.filter.includes(event))
        };
        readers.copied().filter(gets).collect()
    }

    /// A stream that is too slow ends: its channel has what it was told before.
    fn tell(&mut self, reader: Reader, news: News) {
        let Some(stream) = self.streams.get(&reader) else { return };
        if stream.sender.try_send(news).is_err() {
            self.remove(reader);
        }
    }

    fn remove(&mut self, reader: Reader) {
        let Some(Subscriber { filter, .. }) = self.streams.remove(&reader) else { return };
        let readers = self.of(&filter.source);
        readers.retain(|other| *other != reader);
        if readers.is_empty() {
            match &filter.source {
                Source::All => {}
                Source::Owner(owner) => drop(self.of_owners.remove(owner)),
                Source::Account(account) => drop(self.of_accounts.remove(account)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::events::EventKind;

    fn event(position: i64, account: u128, owner: &str) -> LoggedEvent {
        LoggedEvent {
            position,
            sequence: position,
            kind: EventKind::AccountCreated,
            account: AccountId::from_uuid(Uuid::from_u128(account)),
            owner: UserId::try_from(owner.to_owned()).unwrap(),
            record: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn filter(source: Source) -> EventFilter {
        EventFilter { source, kind: None }
    }

    fn hand_out(subscribers: &Subscribers, events: Vec<LoggedEvent>) {
        let through = events.last().unwrap().position;
        let wanted = subscribers.readers(events).into_iter();
        let frames = wanted.map(|(event, readers)| ((event.position, Bytes::new()), readers));
        subscribers.hand_out(through, None, frames);
    }

    fn positions(news: Option<News>) -> Vec<i64> {
        let Some(News::Events { through, events }) = news else { panic!("{news:?}") };
        assert_eq!(through, 3);
        events.into_iter().map(|(position, _)| position).collect()
    }

    #[tokio::test]
    async fn a_stream_is_told_its_own_events_only() {
        let subscribers = Subscribers::default();
        let (one, other) = (event(1, 7, "ann"), event(2, 8, "ann"));
        let mut all = subscribers.add(&filter(Source::All));
        let mut of_ann = subscribers.add(&filter(Source::Owner(one.owner.clone())));
        let mut of_account = subscribers.add(&filter(Source::Account(other.account)));
        let of_type = EventFilter { source: Source::All, kind: Some(EventKind::RecordFailed) };
        let mut of_type = subscribers.add(&of_type);
        hand_out(&subscribers, vec![one, other, event(3, 9, "ben")]);
        assert_eq!(positions(all.next().await), [1, 2, 3]);
        assert_eq!(positions(of_ann.next().await), [1, 2]);
        assert_eq!(positions(of_account.next().await), [2]);
        assert!(of_type.news.try_recv().is_err());
        drop((all, of_ann, of_account));
        assert!(subscribers.readers(vec![event(4, 8, "ann")]).is_empty());
        drop(of_type);
        assert!(subscribers.is_empty());
    }

    #[tokio::test]
    async fn a_slow_stream_has_what_it_was_told_before_it_ends() {
        let subscribers = Subscribers::default();
        let mut slow = subscribers.add(&filter(Source::All));
        for _ in 0..=WAITING {
            hand_out(&subscribers, vec![event(3, 7, "ann")]);
        }
        assert!(subscribers.is_empty());
        for _ in 0..WAITING {
            assert_eq!(positions(slow.next().await), [3]);
        }
        assert!(slow.next().await.is_none());
    }
}
