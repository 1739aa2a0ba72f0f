//! Events as server-sent events.
//!
//! A stream subscribes to the replica's [`EventTail`](super::EventTail), reads pages until it has
//! caught up, then it takes the news of the tail. It keeps the position up to which it has sent
//! everything. If it is too slow for the news, its subscription ends: it subscribes again, and
//! reads pages. So a slow client costs reads, and no memory.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::stream;
use runtime::http::{bearer::TokenVerifier, problem::UNAUTHENTICATED};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    slots::Slot,
    subscribers::Subscription,
    tail::{EventTail, News},
    view::EventView,
};
use crate::{
    events::{EventDetail, EventFilter, EventIds, EventLog, LoggedEvent},
    store::StoreError,
};

/// Interval of comments that keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Interval at which the token is verified again: it may have expired.
const CHECK_TOKEN_EVERY: Duration = Duration::from_secs(5);
/// The same of an API key: it may be revoked. With the age of its look-up ([`RECHECK`]), a stream
/// ends within five seconds.
///
/// [`RECHECK`]: runtime::http::bearer::RECHECK
const CHECK_KEY_EVERY: Duration = Duration::from_millis(500);
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
    pub(super) verifier: TokenVerifier,
    /// Of the request, with its token or API key.
    pub(super) headers: HeaderMap,
    pub(super) has_api_key: bool,
    pub(super) draining: CancellationToken,
    pub(super) _slot: Slot,
}

/// What a stream waits for.
struct Running {
    stream: EventStream,
    is_behind: bool,
    next_comment: Instant,
    next_check: Instant,
}

impl IntoResponse for EventStream {
    fn into_response(self) -> Response {
        let now = Instant::now();
        let running = Running {
            stream: self,
            is_behind: true,
            next_comment: now + KEEP_ALIVE,
            next_check: now,
        };
        let frames = stream::unfold((running, true), |(mut running, is_first)| async move {
            let bytes = if is_first { Bytes::from_static(RETRY) } else { running.next().await? };
            running.next_comment = Instant::now() + KEEP_ALIVE;
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
    /// The next bytes; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let is_over = self.stream.draining.is_cancelled() || self.has_lost_events();
            if is_over || !self.is_allowed().await {
                return None;
            }
            if self.is_behind {
                match self.page().await {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Some(bytes),
                    Err(error) => {
                        tracing::debug!(%error, "a stream of events ends: reading events failed");
                        return None;
                    }
                }
                continue;
            }
            tokio::select! {
                biased;
                () = self.stream.draining.cancelled() => return None,
                news = self.stream.subscription.next() => match news {
                    Some(News::Events { through, events }) => {
                        let bytes = self.take(through, &events);
                        if !bytes.is_empty() {
                            return Some(bytes);
                        }
                    }
                    Some(News::Behind) => self.is_behind = true,
                    Some(News::Lost) => return None,
                    None => self.subscribe_again(),
                },
                () = sleep_until(self.next_comment) => return Some(Bytes::from_static(b":\n\n")),
                () = sleep_until(self.next_check) => {}
            }
        }
    }

    /// Whether the token is still valid. A failure to verify it is no reason to end.
    async fn is_allowed(&mut self) -> bool {
        if Instant::now() < self.next_check {
            return true;
        }
        let every = if self.stream.has_api_key { CHECK_KEY_EVERY } else { CHECK_TOKEN_EVERY };
        self.next_check = Instant::now() + every;
        let caller = self.stream.verifier.caller_of(&self.stream.headers).await;
        !caller.is_err_and(|problem| problem.is(UNAUTHENTICATED))
    }

    /// Whether the database has lost events since the stream began. The client may have them, and
    /// the position may be that of another event.
    fn has_lost_events(&self) -> bool {
        self.stream.log.horizon().losses() != self.stream.losses
    }

    /// The next page.
    async fn page(&mut self) -> Result<Bytes, StoreError> {
        let EventStream { log, filter, position, .. } = &mut self.stream;
        let page = log.read(filter, *position, PAGE).await?;
        let details = log.details(&page.events).await?;
        let ids = log.ids().await?;
        let events = page.events.iter().zip(&details);
        let frames: Vec<_> = events.map(|(event, detail)| frame(ids, event, detail)).collect();
        *position = page.through;
        self.is_behind = page.has_more;
        let bytes: Vec<u8> = frames.concat();
        Ok(bytes.into())
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
