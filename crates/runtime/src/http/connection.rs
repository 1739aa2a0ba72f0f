//! One connection of a client: whether it has a request in process, and when it is closed.
//!
//! The time limits of hyper cover neither the first bytes (it detects the protocol before its
//! timers start) nor an HTTP/2 connection without requests. So the limits stand here, for both
//! protocols alike.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::Version,
};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};

/// Time limit for a request's head, from the connection or from its first byte.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Time limit of a connection without a request, and of a client that reads no more of its
/// response. Longer than the 60 s for which load balancers keep connections.
const IDLE_LIMIT: Duration = Duration::from_secs(75);
/// The same once the service stops: time to send the end of a response.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// The deadline of a connection is checked this often at least.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// HTTP/2 connections without requests exchange small frames. More bytes belong to a head.
const HTTP2_UPKEEP: usize = 4096;

/// Connections that may wait for a head: each may buffer 32 KiB.
pub(super) const MAX_IN_HEAD: usize = 512;
/// A head of a client arrives in one read, behind the few bytes that tell the protocol. More
/// bytes without a request are a part of a large head.
const LARGE: usize = 1024;

/// The connections of a listener that wait for a head.
#[derive(Debug, Default)]
pub(super) struct Heads {
    count: AtomicUsize,
    excess: Notify,
}

impl Heads {
    /// Waits until there are more than [`MAX_IN_HEAD`].
    pub(super) async fn too_many(&self) {
        self.excess.notified().await;
    }

    fn begin(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) >= MAX_IN_HEAD {
            self.excess.notify_one();
        }
    }

    fn end(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    fn are_too_many(&self) -> bool {
        self.count.load(Ordering::Relaxed) > MAX_IN_HEAD
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    phase: Mutex<Phase>,
    heads: Arc<Heads>,
    close: Notify,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end_head(&mut self.phase());
    }
}

#[derive(Debug)]
struct Phase {
    /// Requests whose response has not begun.
    requests: usize,
    /// Responses with a body that is not buffered.
    responses: usize,
    /// Whether buffered bytes wait for the client to read.
    unsent: bool,
    /// Whether it is new, or a head has begun.
    in_head: bool,
    /// Held until its first request.
    unserved: Option<OwnedSemaphorePermit>,
    /// Bytes since the last request.
    unclaimed: usize,
    http2: bool,
    /// When a head, a request or a part of a response began or ended last.
    since: Instant,
    closed: bool,
    /// Reads on once there is room for heads.
    held: Option<Waker>,
}

impl Connection {
    pub(super) fn new(heads: &Arc<Heads>, unserved: OwnedSemaphorePermit) -> Arc<Self> {
        heads.begin();
        let since = Instant::now();
        let phase = Phase {
            requests: 0,
            responses: 0,
            unsent: false,
            in_head: true,
            unserved: Some(unserved),
            unclaimed: 0,
            http2: false,
            since,
            closed: false,
            held: None,
        };
        Arc::new(Self { phase: Mutex::new(phase), heads: Arc::clone(heads), close: Notify::new() })
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_head(&self, phase: &mut Phase) {
        if std::mem::take(&mut phase.in_head) {
            self.heads.end();
        }
    }

    /// Closes the connection.
    pub(super) fn close(&self) {
        let mut phase = self.phase();
        phase.closed = true;
        self.end_head(&mut phase);
        self.close.notify_one();
    }

    /// The connection is closed.
    pub(super) fn ended(&self) {
        self.close();
        self.phase().unserved = None;
    }

    /// Waits for [`Self::close`].
    pub(super) async fn closing(&self) {
        self.close.notified().await;
    }

    /// Whether a request is in process or being answered.
    pub(super) fn has_request(&self) -> bool {
        !self.phase().is_idle()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase().closed
    }

    /// Since when it waits for a head, if it does; and whether it has sent little of it, as a new
    /// client whose head is on its way. The first values are those to close first.
    pub(super) fn in_head_since(&self) -> Option<(bool, Instant)> {
        let phase = self.phase();
        let is_small = phase.unclaimed < LARGE;
        (phase.is_idle() && phase.in_head && !phase.closed).then_some((is_small, phase.since))
    }

    /// Since when it has no request in process, if it has none.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let phase = self.phase();
        (phase.is_idle() && !phase.closed).then_some(phase.since)
    }

    /// The next time at which to check whether it is to be closed. `None`: now. `stopped` is
    /// when the stop began.
    pub(super) fn next_check(&self, stopped: Option<Instant>) -> Option<Instant> {
        let now = Instant::now();
        let (deadline, most) = match (self.deadline(stopped), stopped) {
            (Some(deadline), _) if deadline <= now => return None,
            (deadline, None) => (deadline, CHECK_EVERY),
            (deadline, Some(_)) => (deadline, STOP_LIMIT),
        };
        let latest = now + most;
        Some(deadline.map_or(latest, |deadline| deadline.min(latest)))
    }

    fn deadline(&self, stopped: Option<Instant>) -> Option<Instant> {
        let phase = self.phase();
        if phase.requests > 0 {
            return None;
        }
        match stopped {
            Some(stopped) => (phase.responses == 0).then(|| phase.since.max(stopped) + STOP_LIMIT),
            None if phase.is_idle() && phase.in_head => Some(phase.since + HEAD_LIMIT),
            None => Some(phase.since + IDLE_LIMIT),
        }
    }

    /// Whether it must not begin a head, or read more of a large one, because there are too many.
    /// It goes on after [`Self::release`]. One that is being closed reads what has arrived.
    pub(super) fn is_held(&self, cx: &Context<'_>) -> bool {
        let mut phase = self.phase();
        let begins = !phase.in_head && !phase.http2;
        let held = phase.is_idle() && !phase.closed && (begins || phase.unclaimed >= LARGE);
        let held = held && self.heads.are_too_many();
        phase.held = held.then(|| cx.waker().clone());
        held
    }

    /// Reads on, if it was held.
    pub(super) fn release(&self) {
        if let Some(held) = self.phase().held.take() {
            held.wake();
        }
    }

    pub(super) fn received(&self, bytes: usize) {
        let mut phase = self.phase();
        if phase.is_idle() && !phase.closed {
            phase.unclaimed = phase.unclaimed.saturating_add(bytes);
            if !phase.in_head && (!phase.http2 || phase.unclaimed > HTTP2_UPKEEP) {
                phase.in_head = true;
                phase.since = Instant::now();
                self.heads.begin();
            }
        }
    }

    /// Notes whether buffered bytes wait. After the last one, the connection is idle.
    pub(super) fn set_unsent(&self, unsent: bool) {
        let mut phase = self.phase();
        phase.unsent = unsent;
        if !unsent {
            phase.since = Instant::now();
        }
    }

    /// Begins a request.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> InProcess {
        let mut phase = self.phase();
        phase.requests += 1;
        phase.unserved = None;
        self.end_head(&mut phase);
        phase.unclaimed = 0;
        phase.http2 = version == Version::HTTP_2;
        phase.since = Instant::now();
        InProcess { connection: Arc::clone(self), responding: false }
    }
}

impl Phase {
    const fn is_idle(&self) -> bool {
        self.requests == 0 && self.responses == 0 && !self.unsent
    }
}

/// A request in process, until its response is sent or dropped.
#[derive(Debug)]
pub(super) struct InProcess {
    connection: Arc<Connection>,
    responding: bool,
}

impl InProcess {
    /// Begins the response.
    pub(super) fn respond(mut self, body: Body) -> ResponseBody {
        let mut phase = self.connection.phase();
        phase.requests = phase.requests.saturating_sub(1);
        phase.responses += 1;
        phase.since = Instant::now();
        drop(phase);
        self.responding = true;
        ResponseBody { body, in_process: self }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        let mut phase = self.connection.phase();
        let Phase { requests, responses, .. } = &mut *phase;
        let count = if self.responding { responses } else { requests };
        *count = count.saturating_sub(1);
        phase.since = Instant::now();
    }
}

/// A response's body. Each part of it that is sent counts as activity of the connection.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    in_process: InProcess,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.in_process.connection.phase().since = Instant::now();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
