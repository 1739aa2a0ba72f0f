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

use super::unread::UnreadPlace;

/// Time limit for a request's head, from the connection or from its first byte.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Time limit of a connection without a request, and of a response that its client reads no more of,
/// whatever else the client does. Longer than the 60 s for which load balancers keep connections.
const IDLE_LIMIT: Duration = Duration::from_secs(75);
/// A connection with a response that its client has not read for this time may be closed to make
/// room. Longer than the pause between two parts of an event stream.
const STUCK_AFTER: Duration = Duration::from_secs(20);
/// A larger part of a response is sent in parts of this size, so that a slow client is not taken for
/// one that reads nothing.
const PART: usize = 64 * 1024;
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
    /// Responses whose body is not in memory as a whole.
    streams: usize,
    /// Responses that are not sent, and when a part of each was taken last.
    responses: Vec<(u64, Instant)>,
    /// Responses that have begun.
    begun: u64,
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
            streams: 0,
            responses: Vec::new(),
            begun: 0,
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

    /// Since when its client has read no part of a response, if that is too long to keep another one
    /// waiting.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.phase().unread_since().filter(|since| since.elapsed() >= STUCK_AFTER)
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
        let has_request = phase.requests > 0;
        let Some(stopped) = stopped else {
            let unread = phase.unread_since().map(|since| since + IDLE_LIMIT);
            let limit = if phase.is_idle() && phase.in_head { HEAD_LIMIT } else { IDLE_LIMIT };
            let own = (!has_request).then(|| phase.since + limit);
            return own.into_iter().chain(unread).min();
        };
        (!has_request && phase.streams == 0).then(|| phase.since.max(stopped) + STOP_LIMIT)
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
        InProcess { connection: Arc::clone(self), response: None }
    }
}

impl Phase {
    const fn is_idle(&self) -> bool {
        self.requests == 0 && self.responses.is_empty() && !self.unsent
    }

    /// Since when no part of a response was taken: of that which waits longest.
    fn unread_since(&self) -> Option<Instant> {
        self.responses.iter().map(|(_, since)| *since).min()
    }
}

/// A request in process, until its response is sent or dropped.
#[derive(Debug)]
pub(super) struct InProcess {
    connection: Arc<Connection>,
    response: Option<BegunResponse>,
}

#[derive(Debug)]
struct BegunResponse {
    number: u64,
    is_stream: bool,
    /// Dropped with the last part.
    _unread: Option<UnreadPlace>,
}

impl InProcess {
    /// Begins the response.
    pub(super) fn respond(mut self, body: Body, unread: Option<UnreadPlace>) -> ResponseBody {
        let mut phase = self.connection.phase();
        phase.requests = phase.requests.saturating_sub(1);
        let (number, is_stream) = (phase.begun, body.size_hint().exact().is_none());
        phase.begun += 1;
        phase.streams += usize::from(is_stream);
        phase.since = Instant::now();
        let since = phase.since;
        phase.responses.push((number, since));
        drop(phase);
        self.response = Some(BegunResponse { number, is_stream, _unread: unread });
        ResponseBody { body, rest: None, in_process: Arc::new(self) }
    }

    /// A part of the response is taken.
    fn progress(&self) {
        let mut phase = self.connection.phase();
        phase.since = Instant::now();
        let since = phase.since;
        let number = self.response.as_ref().map(|response| response.number);
        let own = phase.responses.iter_mut().find(|(other, _)| Some(*other) == number);
        if let Some((_, last)) = own {
            *last = since;
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        let mut phase = self.connection.phase();
        match &self.response {
            Some(BegunResponse { number, is_stream, .. }) => {
                phase.streams = phase.streams.saturating_sub(usize::from(*is_stream));
                phase.responses.retain(|(other, _)| other != number);
            }
            None => phase.requests = phase.requests.saturating_sub(1),
        }
        phase.since = Instant::now();
    }
}

/// A response's body. Each part of it that is taken counts as activity of the connection.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    /// The rest of a part.
    rest: Option<Bytes>,
    in_process: Arc<InProcess>,
}

/// A part of a response until it is sent: hyper keeps what a client does not read.
#[derive(Debug)]
struct Part {
    bytes: Bytes,
    _in_process: Arc<InProcess>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ResponseBody {
    fn part(&mut self, mut bytes: Bytes) -> Frame<Bytes> {
        if bytes.len() > PART {
            self.rest = Some(bytes.split_off(PART));
        }
        let _in_process = Arc::clone(&self.in_process);
        Frame::data(Bytes::from_owner(Part { bytes, _in_process }))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = match self.rest.take() {
            Some(rest) => Some(Ok(Frame::data(rest))),
            None => ready!(Pin::new(&mut self.body).poll_frame(cx)),
        };
        self.in_process.progress();
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(bytes) => self.part(bytes),
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.as_ref().map_or(0, Bytes::len));
        match (hint.exact(), u64::try_from(rest)) {
            (Some(size), Ok(rest)) => SizeHint::with_exact(size + rest),
            _ => hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc};

    use tokio::{sync::Semaphore, time::advance};

    use super::*;

    fn connection() -> Arc<Connection> {
        let unserved = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Connection::new(&Arc::default(), unserved)
    }

    async fn next(body: &mut ResponseBody) -> Bytes {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        frame.unwrap().unwrap().into_data().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_read_ends_its_connection_whatever_else_the_client_does() {
        let connection = connection();
        let respond = |body| connection.request(Version::HTTP_2).respond(body, None);
        let mut unread = respond(Body::from(vec![0; PART + 1]));
        let part = next(&mut unread).await;
        for _ in 0..7 {
            assert!(connection.next_check(None).is_some());
            advance(Duration::from_secs(10)).await;
            // Others come and go.
            let other = next(&mut respond(Body::from("read"))).await;
            drop((connection.request(Version::HTTP_2), other));
        }
        assert!(connection.next_check(None).is_some());
        advance(Duration::from_secs(5)).await;
        let request = connection.request(Version::HTTP_2);
        assert_eq!(connection.next_check(None), None);
        drop((request, unread));
        // What hyper holds is unread, too.
        assert_eq!(connection.next_check(None), None);
        drop(part);
        assert!(connection.next_check(None).is_some());
        assert!(!connection.has_request());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_read_slowly_is_sent_whole_and_one_that_is_stuck_makes_room() {
        let connection = connection();
        let request = connection.request(Version::HTTP_11);
        let mut body = request.respond(Body::from(vec![7; 3 * PART + 1]), None);
        assert_eq!(body.size_hint().exact(), u64::try_from(3 * PART + 1).ok());
        let (mut size, mut parts) = (0, 0);
        while !body.is_end_stream() {
            size += next(&mut body).await.len();
            parts += 1;
            assert_eq!(connection.stuck_since(), None);
            advance(STUCK_AFTER).await;
            assert!(connection.stuck_since().is_some());
            advance(Duration::from_secs(50)).await;
            assert!(connection.next_check(None).is_some());
        }
        assert_eq!((size, parts), (3 * PART + 1, 4));
        drop(body);
        assert_eq!(connection.stuck_since(), None);
    }
}
