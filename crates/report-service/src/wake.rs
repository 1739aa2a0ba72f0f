//! Sends the message of a new report right after its commit. A message without a
//! PubAck is left to the redrive.

use async_nats::jetstream;
use contract::{Job, ReportId};
use runtime::{
    nats::{outgoing::Outgoing, publish::publish_all},
    telemetry::trace::Trace,
};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// Maximum messages in the queue. The redrive sends the others.
const MAX_QUEUED: usize = 1000;

/// Queues messages: the handle for the API.
#[derive(Debug, Clone)]
pub struct Waker(mpsc::Sender<(ReportId, Trace)>);

/// The queued messages.
#[derive(Debug)]
pub struct Wakes(mpsc::Receiver<(ReportId, Trace)>);

/// Creates both ends of the queue.
#[must_use]
pub fn channel() -> (Waker, Wakes) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    (Waker(sender), Wakes(receiver))
}

impl Waker {
    /// Queues the message of a committed report.
    pub fn wake(&self, report: ReportId, trace: Trace) {
        if self.0.try_send((report, trace)).is_err() {
            tracing::debug!(report.id = %report, "the queue is full; the redrive sends the message");
        }
    }
}

impl Wakes {
    /// Sends on `subject` until the [`Waker`] is dropped and the queue is empty.
    pub async fn run(mut self, jetstream: jetstream::Context, subject: &str) {
        let mut reports = Vec::new();
        while self.0.recv_many(&mut reports, 100).await > 0 {
            let messages: Vec<_> = reports
                .drain(..)
                .map(|(report, trace)| message(subject, report, report.to_string(), trace))
                .collect();
            if let Err(missing) = publish_all(&jetstream, &messages).await {
                tracing::warn!(
                    reports = missing.positions.len(),
                    reason = missing.reason,
                    "report messages got no PubAck; the redrive sends them"
                );
            }
        }
    }
}

/// The message that wakes a worker for a report.
#[must_use]
pub fn message(subject: &str, report: ReportId, message_id: String, trace: Trace) -> Outgoing {
    // Serializing an id can't fail.
    let payload = serde_json::to_vec(&Job { report_id: report }).unwrap_or_default();
    Outgoing {
        subject: subject.to_owned(),
        message_id,
        trace,
        redrive_of: None,
        headers: async_nats::HeaderMap::new(),
        payload: Bytes::from(payload),
        sharing: None,
    }
}
