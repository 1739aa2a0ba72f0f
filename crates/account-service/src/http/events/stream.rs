//! Events as server-sent events.
//!
//! A stream reads pages until it has caught up, then it takes the batches of the replica's
//! [`EventTail`](super::EventTail). It keeps the position up to which it has sent everything. If
//! the next batch begins later, or the stream was too slow for a batch, it reads pages again. So a
//! slow client costs reads, and no memory.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::stream;
use runtime::http::{bearer::TokenVerifier, problem::UNAUTHENTICATED};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    slots::Slot,
    tail::{Batch, LOST},
    view::EventView,
};
use crate::{
    events::{EventDetail, EventFilter, EventIds, EventLog, LoggedEvent},
    store::StoreError,
};

/// Interval of comments that keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Interval at which the token is verified again: it may have expired.
const CHECK_EVERY: Duration = Duration::from_secs(5);
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
    pub(super) filter: EventFilter,
    /// Everything up to this position was sent.
    pub(super) position: i64,
    pub(super) batches: Receiver<Arc<Batch>>,
    pub(super) verifier: TokenVerifier,
    /// Of the request, with its token.
    pub(super) headers: HeaderMap,
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
            next_check: now + CHECK_EVERY,
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
            if self.stream.draining.is_cancelled() || !self.is_allowed().await {
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
                batch = self.stream.batches.recv() => match batch {
                    Ok(batch) if batch.through == LOST => return None,
                    Ok(batch) => {
                        let bytes = self.batch(&batch);
                        if !bytes.is_empty() {
                            return Some(bytes);
                        }
                    }
                    Err(RecvError::Lagged(_)) => self.is_behind = true,
                    Err(RecvError::Closed) => return None,
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
        self.next_check = Instant::now() + CHECK_EVERY;
        let caller = self.stream.verifier.caller_of(&self.stream.headers).await;
        !caller.is_err_and(|problem| problem.is(UNAUTHENTICATED))
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

    /// The client's events of a batch.
    fn batch(&mut self, batch: &Batch) -> Bytes {
        let EventStream { filter, position, .. } = &mut self.stream;
        if batch.after > *position {
            self.is_behind = true;
            return Bytes::new();
        }
        let sent = *position;
        *position = sent.max(batch.through);
        let events = batch.events.iter();
        let mut own = events.filter(|(event, _)| event.position > sent && filter.includes(event));
        match (own.next(), own.next()) {
            (None, _) => Bytes::new(),
            (Some((_, frame)), None) => frame.clone(),
            (Some((_, first)), Some((_, second))) => {
                let mut bytes = [&first[..], second].concat();
                own.for_each(|(_, frame)| bytes.extend_from_slice(frame));
                bytes.into()
            }
        }
    }
}
