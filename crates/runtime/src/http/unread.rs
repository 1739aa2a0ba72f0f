//! The memory of responses that their clients have not read: a share for each caller, and one for
//! all.
//!
//! Without it, a caller who asks for large pages and reads none of them would use up the memory of
//! the process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    body::HttpBody,
    response::{IntoResponse, Response},
};
use contract::UserId;

use super::{
    listener::memory_limit,
    problem::{Problem, TOO_MANY_REQUESTS, UNAVAILABLE},
};

/// Smaller responses are not counted. The time limit of a response that is not read bounds their
/// number.
const SMALL: usize = 4096;
/// The share of all callers: a quarter of the memory, within these bounds, in bytes.
const ALL: (usize, usize) = (8 << 20, 256 << 20);
/// One caller may have this part of it.
const CALLER_PART: usize = 4;

/// Counts the bytes of each caller.
#[derive(Debug, Clone)]
pub(super) struct UnreadResponses {
    of_caller: usize,
    of_all: usize,
    unread: Arc<Unread>,
}

#[derive(Debug, Default)]
struct Unread {
    all: AtomicUsize,
    callers: Mutex<HashMap<UserId, usize>>,
}

impl Default for UnreadResponses {
    /// By the memory of the process.
    fn default() -> Self {
        let memory = memory_limit().and_then(|memory| usize::try_from(memory).ok());
        let (least, most) = ALL;
        Self::new(memory.map_or(most, |memory| (memory / 4).clamp(least, most)))
    }
}

impl UnreadResponses {
    fn new(of_all: usize) -> Self {
        Self { of_caller: of_all / CALLER_PART, of_all, unread: Arc::default() }
    }

    /// Checks a caller's new request.
    ///
    /// # Errors
    /// `too-many-requests`, if the caller has its share.
    pub(super) fn admit(&self, caller: &UserId) -> Result<(), Problem> {
        if self.unread.all.load(Ordering::Relaxed) < self.of_caller {
            return Ok(());
        }
        let bytes = self.unread.callers().get(caller).copied().unwrap_or_default();
        if bytes < self.of_caller { Ok(()) } else { Err(self.too_many()) }
    }

    /// Counts a response until its bytes are sent or dropped. A response to a request that only reads
    /// is replaced by a problem if there is no room for it.
    pub(super) fn count(
        &self,
        response: Response,
        caller: Option<&UserId>,
        only_reads: bool,
    ) -> Response {
        let bytes = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        let bytes = bytes.unwrap_or_default();
        let Some(caller) = caller.filter(|_| bytes > SMALL) else { return response };
        match self.take(caller, bytes, only_reads) {
            Ok(place) => {
                let mut response = response;
                response.extensions_mut().insert(place);
                response
            }
            Err(problem) => problem.into_response(),
        }
    }

    fn take(&self, caller: &UserId, bytes: usize, may_fail: bool) -> Result<UnreadPlace, Problem> {
        let Unread { all, .. } = &*self.unread;
        let mut callers = self.unread.callers();
        let of_caller = callers.get(caller).copied().unwrap_or_default();
        // One response is within each share, however large it is.
        if may_fail && of_caller > 0 && of_caller + bytes > self.of_caller {
            return Err(self.too_many());
        }
        let before = all.load(Ordering::Relaxed);
        if may_fail && before > 0 && before + bytes > self.of_all {
            let detail = "Too many responses wait for their clients to read them.";
            return Err(UNAVAILABLE.because(detail).retry_after(1));
        }
        all.fetch_add(bytes, Ordering::Relaxed);
        callers.insert(caller.clone(), of_caller + bytes);
        drop(callers);
        let (unread, caller) = (Arc::clone(&self.unread), caller.clone());
        Ok(UnreadPlace(Arc::new(Counted { unread, caller, bytes })))
    }

    fn too_many(&self) -> Problem {
        let detail = format!(
            "Responses of {} MiB wait for this caller to read them. Nothing was stored.",
            self.of_caller >> 20
        );
        TOO_MANY_REQUESTS.because(detail).retry_after(1)
    }
}

impl Unread {
    fn callers(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of one response, until it is dropped. It is among the extensions of the response.
#[derive(Debug, Clone)]
pub(super) struct UnreadPlace(#[expect(dead_code, reason = "held until dropped")] Arc<Counted>);

#[derive(Debug)]
struct Counted {
    unread: Arc<Unread>,
    caller: UserId,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut callers = self.unread.callers();
        self.unread.all.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(bytes) = callers.get_mut(&self.caller) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 10_000;

    fn user(name: &str) -> UserId {
        UserId::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn each_caller_has_a_share_and_leaves_nothing_behind() {
        let unread = UnreadResponses::new(8 * LARGE);
        let (ann, bob) = (user("ann"), user("bob"));
        let read =
            |caller: &UserId| unread.count(vec![0; LARGE].into_response(), Some(caller), true);
        let mut held = vec![read(&ann), read(&ann)];
        assert_eq!(read(&ann).status(), 429);
        assert_eq!(unread.admit(&ann).unwrap_err().status(), 429);
        // What was stored is told, and small responses are not counted.
        let stored = unread.count(vec![0; LARGE].into_response(), Some(&ann), false);
        assert_eq!(stored.status(), 200);
        assert_eq!(unread.count("small".into_response(), Some(&ann), true).status(), 200);
        unread.admit(&bob).unwrap();
        held.extend([read(&bob), read(&bob), stored]);
        for caller in ["eve", "joe"] {
            held.push(read(&user(caller)));
        }
        assert!(held.iter().all(|response| response.status() == 200));
        held.push(read(&user("kim")));
        assert_eq!(read(&user("leo")).status(), 503, "all have their share");
        held.clear();
        assert!(unread.unread.callers().is_empty());
        assert_eq!(unread.unread.all.load(Ordering::Relaxed), 0);
        // A response that is larger than the share passes alone.
        let alone = unread.count(vec![0; 5 * LARGE].into_response(), Some(&ann), true);
        assert_eq!(alone.status(), 200);
        assert_eq!(read(&ann).status(), 429);
    }
}
