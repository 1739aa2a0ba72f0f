//! Events as server-sent events.
//!
//! A stream subscribes to the replica's [`EventTail`](super::EventTail), reads pages until it has
//! caught up, then it takes the news of the tail. It keeps the position up to which it has sent
//! everything. If it is too slow for the news, its subscription ends: it subscribes again, and
//! reads pages. So a slow client costs reads, and no memory.
//!
//! A filter may leave out millions of events. The client is told how far they are read: an `id`
//! without `data` is no event, but the client sends it as its `Last-Event-ID` (HTML standard,
//! section 9.2.6). Otherwise, a new connection would read all of them again.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::{future::OptionFuture, stream};
use runtime::http::{
    bearer::Caller,
    streams::{KEEP_ALIVE, TokenCheck},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    cursor_behind,
    slots::Slot,
    subscribers::Subscription,
    tail::{EventTail, News},
    view::EventView,
};
use crate::{
    events::{EventDetail, EventFilter, EventIds, EventLog, LoggedEvent},
    store::StoreError,
};

/// Pause before the client is told how far the events are read.
const CURSOR_AFTER: Duration = Duration::from_secs(1);
/// Pause of a client before it connects again, in milliseconds.
const RETRY: &[u8] = b"retry: 2000\n\n";
/// Events of a page while a stream catches up.
const PAGE: u16 = 100;

/// One event of a stream. JSON in one line needs no escapes.
pub(super) fn frame(ids: &EventIds, event: &LoggedEvent, detail: &EventDetail) -> Bytes {
    let view = EventView::new(ids, event, detail);
    let data = serde_json::to_string(&view).unwrap_or_default();
    Bytes::from(format!("id: {}\ndata: {data}\n\n", view.id()))
}

/// Sends events to one client.
pub(super) struct EventStream {
    pub(super) log: EventLog,
    /// The losses of the log when the stream began.
    pub(super) losses: u64,
    pub(super) filter: EventFilter,
    /// Everything up to this position was sent.
    pub(super) position: i64,
    pub(super) tail: EventTail,
    pub(super) subscription: Subscription,
    pub(super) caller: Caller,
    pub(super) token: TokenCheck,
    pub(super) draining: CancellationToken,
    pub(super) _slot: Slot,
}

/// Reads a page. It is a task: a client that takes nothing, not even a comment, must not keep the
/// permit of a read.
type Reading = AbortOnDropHandle<Result<Page, StoreError>>;

/// A page, for a stream.
struct Page {
    frames: Bytes,
    /// The last event that was read, if it is behind those of the frames.
    unsent: Option<LoggedEvent>,
    through: i64,
    has_more: bool,
}

/// What a stream waits for.
struct Running {
    stream: EventStream,
    is_behind: bool,
    /// The next page, while the stream is behind.
    reading: Option<Reading>,
    /// An event that was read, but not sent: the client goes on behind it.
    unsent: Option<LoggedEvent>,
    sent_at: Instant,
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let running = Running::new(self);
        let frames = stream::unfold((running, true), |(mut running, is_first)| async move {
            let bytes = if is_first { Bytes::from_static(RETRY) } else { running.next().await? };
            running.sent_at = Instant::now();
            Some((Ok::<_, Infallible>(bytes), (running, false)))
        });
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            // nginx would collect the events.
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        (headers, Body::from_stream(frames)).into_response()
    }
}

impl Running {
    fn new(stream: EventStream) -> Self {
        let sent_at = Instant::now();
        Self { stream, is_behind: true, reading: None, unsent: None, sent_at }
    }

    /// The next bytes; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let is_over = self.stream.draining.is_cancelled() || self.has_lost_events();
            if is_over || !self.stream.token.is_allowed().await {
                return None;
            }
            if self.is_behind && self.reading.is_none() {
                let EventStream { log, filter, position, .. } = &self.stream;
                let reading = read_page(log.clone(), filter.clone(), *position);
                self.reading = Some(AbortOnDropHandle::new(tokio::spawn(reading)));
            }
            let silence = if self.unsent.is_some() { CURSOR_AFTER } else { KEEP_ALIVE };
            tokio::select! {
                biased;
                () = self.stream.draining.cancelled() => return None,
                Some(page) = OptionFuture::from(self.reading.as_mut()) => {
                    // The error of a task is its panic, which was logged.
                    let frames = self.turn_to(page.ok()?)?;
                    if !frames.is_empty() {
                        return Some(frames);
                    }
                }
                news = self.stream.subscription.next(), if !self.is_behind => match news {
                    Some(News::Events { through, events }) => {
                        let frames = self.take(through, &events);
                        if !frames.is_empty() {
                            self.unsent = None;
                            return Some(frames);
                        }
                    }
                    Some(News::Behind) => self.is_behind = true,
                    Some(News::Lost) => return None,
                    None => self.subscribe_again(),
                },
                () = sleep_until(self.sent_at + silence) => return Some(self.sign_of_life().await),
                () = self.stream.token.due() => {}
            }
        }
    }

    /// Whether the database has lost events since the stream began. The client may have them, and
    /// the position may be that of another event.
    fn has_lost_events(&self) -> bool {
        self.stream.log.horizon().losses() != self.stream.losses
    }

    /// The events of a page that was read; `None` if reading failed.
    fn turn_to(&mut self, page: Result<Page, StoreError>) -> Option<Bytes> {
        self.reading = None;
        let failed = |error: &StoreError| {
            tracing::debug!(%error, "a stream of events ends: reading events failed");
        };
        let page = page.inspect_err(failed).ok()?;
        self.stream.position = page.through;
        self.is_behind = page.has_more;
        if !page.frames.is_empty() || page.unsent.is_some() {
            self.unsent = page.unsent;
        }
        Some(page.frames)
    }

    /// How far the events are read, if that is behind the last event that was sent. Otherwise, a
    /// comment.
    async fn sign_of_life(&mut self) -> Bytes {
        if self.unsent.is_none() && !self.is_behind {
            let passed = self.stream.subscription.passed(self.stream.losses);
            self.unsent = passed.filter(|event| event.position > self.stream.position);
        }
        let EventStream { log, caller, position, .. } = &mut self.stream;
        if let Some(event) = self.unsent.take()
            && let Ok(ids) = log.ids().await
        {
            *position = event.position.max(*position);
            return Bytes::from(format!("id: {}\n\n", cursor_behind(ids, caller, &event)));
        }
        Bytes::from_static(b":\n\n")
    }

    /// The events that were not sent by a page.
    fn take(&mut self, through: i64, events: &[(i64, Bytes)]) -> Bytes {
        let sent = self.stream.position;
        self.stream.position = sent.max(through);
        let mut new = events.iter().filter(|(position, _)| *position > sent);
        match (new.next(), new.next()) {
            (None, _) => Bytes::new(),
            (Some((_, frame)), None) => frame.clone(),
            (Some((_, first)), Some((_, second))) => {
                let mut bytes = [&first[..], second].concat();
                new.for_each(|(_, frame)| bytes.extend_from_slice(frame));
                bytes.into()
            }
        }
    }

    /// After the news of a subscription that has ended: pages have the events since.
    fn subscribe_again(&mut self) {
        self.stream.subscription = self.stream.tail.subscribe(&self.stream.filter);
        self.is_behind = true;
    }
}

async fn read_page(log: EventLog, filter: EventFilter, after: i64) -> Result<Page, StoreError> {
    let page = log.read(&filter, after, PAGE).await?;
    let details = log.details(&page.events).await?;
    let ids = log.ids().await?;
    let events = page.events.iter().zip(&details);
    let frames: Vec<_> = events.map(|(event, detail)| frame(ids, event, detail)).collect();
    let unsent = page.last.filter(|last| page.events.last() != Some(last));
    Ok(Page {
        frames: frames.concat().into(),
        unsent,
        through: page.through,
        has_more: page.has_more,
    })
}

#[cfg(test)]
mod tests {
    use std::{future, iter};

    use axum::http::{HeaderMap, header::AUTHORIZATION};
    use contract::{AccountId, Scopes};
    use runtime::{
        http::bearer::TokenVerifier,
        postgres::{CALL_LIMIT, PgPool},
    };
    use sqlx::postgres::PgPoolOptions;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::{
        events::{EventKind, Source},
        http::events::{slots::StreamSlots, subscribers::Subscribers},
    };

    fn event(position: i64) -> LoggedEvent {
        LoggedEvent {
            position,
            sequence: position,
            kind: EventKind::AccountCreated,
            account: AccountId::from_uuid(Uuid::from_u128(7)),
            owner: "ann".to_owned().try_into().unwrap(),
            record: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn ids() -> EventIds {
        EventIds::new(&[1; 32])
    }

    /// A stream that is up to date, of a filter that leaves out every event. Neither its database
    /// nor the keys of its token answer.
    fn idle(subscribers: &Subscribers) -> Running {
        let nowhere = "postgres://127.0.0.1:1/none".parse().unwrap();
        let pool = PgPool::connect_lazy(PgPoolOptions::new(), nowhere, CALL_LIMIT);
        let log = EventLog::with_ids(pool, ids());
        let filter = EventFilter { source: Source::All, kind: Some(EventKind::RecordFailed) };
        let user_id = "teller".to_owned().try_into().unwrap();
        let caller = Caller { user_id, scopes: Scopes::all(), api_key: None };
        let keys = "http://127.0.0.1:1/".parse().unwrap();
        let verifier = TokenVerifier::at_url(keys, KEEP_ALIVE, "issuer", "audience").unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, "Bearer token".parse().unwrap())]);
        let running = Running::new(EventStream {
            losses: 0,
            position: 3,
            tail: EventTail::new(&log),
            subscription: subscribers.add(&filter),
            token: TokenCheck::new(verifier, headers, &caller),
            draining: CancellationToken::new(),
            _slot: StreamSlots::new(1).take(&caller).unwrap(),
            log,
            filter,
            caller,
        });
        Running { is_behind: false, ..running }
    }

    /// What the stream sends next, and after which silence.
    async fn next(running: &mut Running) -> (String, Duration) {
        running.sent_at = Instant::now();
        let sent = running.next().await.unwrap();
        (String::from_utf8(sent.to_vec()).unwrap(), running.sent_at.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_tells_how_far_the_events_are_read() {
        let subscribers = Subscribers::default();
        let mut running = idle(&subscribers);
        let comment = (":\n\n".to_owned(), KEEP_ALIVE);
        let cursor = |event: &LoggedEvent| format!("id: {}\n\n", ids().id(event));
        assert_eq!(next(&mut running).await, comment);
        // The filter leaves out new events. After a loss, the positions before say nothing.
        subscribers.hand_out(5, Some((event(4), 1)), iter::empty());
        assert_eq!(next(&mut running).await, comment);
        subscribers.hand_out(7, Some((event(6), 0)), iter::empty());
        assert_eq!(next(&mut running).await, (cursor(&event(6)), KEEP_ALIVE));
        assert_eq!((running.stream.position, next(&mut running).await), (6, comment.clone()));
        // While it catches up, also while a page lets it wait.
        running.is_behind = true;
        running.reading = Some(AbortOnDropHandle::new(tokio::spawn(future::pending())));
        assert_eq!(next(&mut running).await, comment);
        let page = |position, has_more| {
            let unsent = Some(event(position));
            Ok(Page { frames: Bytes::new(), unsent, through: position, has_more })
        };
        running.turn_to(page(8, true)).unwrap();
        running.reading = Some(AbortOnDropHandle::new(tokio::spawn(future::pending())));
        assert_eq!(next(&mut running).await, (cursor(&event(8)), CURSOR_AFTER));
        // And at the end of the last page.
        running.turn_to(page(9, false)).unwrap();
        assert_eq!(next(&mut running).await, (cursor(&event(9)), CURSOR_AFTER));
    }
}
