//! Refusals: the broker never stores this message as it is, however often it is published.
//! Any other error is temporary: the same message can succeed later.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Mutex, PoisonError},
};

use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
};
use tokio::{sync::Notify, time::Instant};

/// The broker's answer to a message that it never stores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// The broker's or the client's text.
    pub reason: String,
}

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// It is larger than the server or the stream allows, or its headers are.
    Size,
    /// The user may not publish on the subject.
    Permission,
    /// Anything else.
    Other,
}

impl RefusalKind {
    const ALL: [Self; 3] = [Self::Size, Self::Permission, Self::Other];

    /// Counts refused messages.
    pub(super) fn count(self, messages: u64) {
        metrics::counter!("passbook_messages_refused_total", "kind" => self.as_str())
            .increment(messages);
    }

    /// The label of the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Permission => "permission",
            Self::Other => "other",
        }
    }
}

/// A counter that starts at zero shows its first event as an increase.
pub(super) fn start_counters_at_zero() {
    RefusalKind::ALL.into_iter().for_each(|kind| kind.count(0));
}

impl Refusal {
    /// `None` for a temporary error. A full stream or account is one: it can be emptied.
    pub(super) fn of(error: &PublishError) -> Option<Self> {
        let kind = if error.kind() == PublishErrorKind::MaxPayloadExceeded {
            RefusalKind::Size
        } else {
            kind(error.source()?.downcast_ref::<jetstream::Error>()?)?
        };
        Some(Self { kind, reason: error.to_string() })
    }

    pub(super) fn permission(subject: &str) -> Self {
        let reason = format!("no permission to publish on {subject}");
        Self { kind: RefusalKind::Permission, reason }
    }
}

fn kind(error: &jetstream::Error) -> Option<RefusalKind> {
    match (error.error_code(), error.code()) {
        (
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
            _,
        ) => Some(RefusalKind::Size),
        // Its limit is on what the account holds.
        (ErrorCode::ACCOUNT_RESOURCES_EXCEEDED, _) => None,
        // Missing, changed meanwhile, busy: not about the message.
        (_, 404 | 408 | 409 | 429) => None,
        (_, 400..=499) => Some(RefusalKind::Other),
        _ => None,
    }
}

/// Maximum remembered subjects.
const MAX_SUBJECTS: usize = 1000;
/// The start of the server's error about a publication without permission. The server sends it
/// beside the messages: there is no PubAck.
const VIOLATION: &str = "permissions violation for publish to \"";

/// When the permission for a subject was last missing. A static, because the client reports the
/// error to the connection, and not to the publisher.
static MISSING: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
static REPORTED: Notify = Notify::const_new();

/// Takes an error that the server sent on the connection.
pub(super) fn server_error(text: &str) {
    let Some(subject) = violated_subject(text) else { return };
    let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    if missing.len() >= MAX_SUBJECTS {
        missing.clear();
    }
    missing.insert(subject.to_owned(), Instant::now());
    drop(missing);
    REPORTED.notify_waiters();
}

fn violated_subject(text: &str) -> Option<&str> {
    let start = text.to_ascii_lowercase().find(VIOLATION)? + VIOLATION.len();
    text.get(start..)?.split('"').next()
}

/// Waits until the server reports that the permission for this subject is missing, since this
/// time.
pub(super) async fn permission_missing(subject: &str, since: Instant) {
    loop {
        let reported = REPORTED.notified();
        tokio::pin!(reported);
        reported.as_mut().enable();
        if is_missing(subject, since) {
            return;
        }
        reported.await;
    }
}

fn is_missing(subject: &str, since: Instant) -> bool {
    let missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    missing.get(subject).is_some_and(|at| *at >= since)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(code: usize, err_code: u64) -> Option<RefusalKind> {
        let error = serde_json::json!({ "code": code, "err_code": err_code, "description": "d" });
        let error: jetstream::Error = serde_json::from_value(error).unwrap();
        let error = PublishError::with_source(PublishErrorKind::Other, error);
        Refusal::of(&error).map(|refusal| refusal.kind)
    }

    #[test]
    fn a_message_is_refused_only_if_it_can_never_be_stored() {
        assert_eq!(of(400, 10054), Some(RefusalKind::Size));
        assert_eq!(of(400, 10097), Some(RefusalKind::Size));
        // A sealed stream.
        assert_eq!(of(400, 10109), Some(RefusalKind::Other));
        // A full account, a full stream, no room on the disk, too many requests, no leader.
        for (code, err_code) in
            [(400, 10002), (503, 10077), (500, 10047), (429, 10167), (503, 10008)]
        {
            assert_eq!(of(code, err_code), None, "{code} {err_code}");
        }
        let size = PublishError::new(PublishErrorKind::MaxPayloadExceeded);
        assert_eq!(Refusal::of(&size).map(|refusal| refusal.kind), Some(RefusalKind::Size));
        for kind in [PublishErrorKind::TimedOut, PublishErrorKind::StreamNotFound] {
            assert_eq!(Refusal::of(&PublishError::new(kind)), None);
        }
    }

    #[tokio::test]
    async fn a_missing_permission_is_that_of_its_subject_and_of_its_time() {
        let begun = Instant::now();
        let waiting =
            tokio::spawn(async move { permission_missing("dead-letter.A.b", begun).await });
        tokio::task::yield_now().await;
        server_error("nats: Permissions Violation for Publish to \"dead-letter.A.b\"");
        waiting.await.unwrap();
        let brief = Duration::from_millis(20);
        let other = permission_missing("dead-letter.A", begun);
        assert!(tokio::time::timeout(brief, other).await.is_err());
        let later = permission_missing("dead-letter.A.b", Instant::now());
        assert!(tokio::time::timeout(brief, later).await.is_err());
    }
}
