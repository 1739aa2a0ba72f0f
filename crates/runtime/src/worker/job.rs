//! Processes one message at a time, for as long as it takes. The message is kept in
//! progress meanwhile, so that the server does not redeliver it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_nats::{
    Client, HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{self, AckKind, Message},
};
use contract::{ConsumerSpec, dead_letter as letter};
use tokio_util::sync::CancellationToken;

use super::{
    Delivery,
    dead_letter::dead_letter,
    delivery::Received,
    pull_loop::{Pause, ProcessMessages},
};
use crate::{
    failpoint,
    nats::{
        outgoing::{Outgoing, wire_size},
        publish::publish_all,
    },
    tasks::sleep_unless_stopped,
};

/// A message that is handed back is redelivered after this delay.
const HAND_BACK_DELAY: Duration = Duration::from_secs(1);
/// A dead letter without a PubAck is published again for this time. Then its message goes to the
/// end of the queue: with one message out at a time, it would hold up all others.
const LETTER_LIMIT: Duration = Duration::from_secs(5);
/// Time limit for the server's answer to an ack. A lost ack costs a redelivery.
const ACK_LIMIT: Duration = Duration::from_secs(2);
/// Maximum bytes of headers that the copy of a message keeps.
const MAX_HEADERS: usize = 4096;

/// The end of a delivery.
#[derive(Debug)]
pub enum JobVerdict {
    /// The state of the job is committed: ack.
    Done,
    /// The message can never succeed: dead-letter it with this reason.
    DeadLetter(String),
    /// Nothing is committed: redeliver the message soon.
    HandBack,
}

/// Runs jobs.
pub trait JobHandler: Send + Sync + 'static {
    /// Runs the job of a message. After `stop` it ends soon, in a state from which
    /// another worker can continue.
    fn run(
        &self,
        delivery: &Delivery,
        stop: &CancellationToken,
    ) -> impl Future<Output = JobVerdict> + Send;
}

/// Runs jobs by a [`JobHandler`] and settles their deliveries.
#[derive(Debug)]
pub struct JobProcessor<H> {
    client: Client,
    jetstream: jetstream::Context,
    consumer: &'static ConsumerSpec,
    handler: Arc<H>,
}

impl<H: JobHandler> ProcessMessages for JobProcessor<H> {
    async fn process(&self, messages: Vec<Message>, stop: &CancellationToken) -> usize {
        let number = messages.len();
        for message in messages {
            tokio::select! {
                () = self.settle(&message, stop) => {}
                // Concurrent with the job, because sending can block for as long as a reconnect.
                () = self.keep_in_progress(&message) => {}
            }
        }
        number
    }
}

impl<H: JobHandler> JobProcessor<H> {
    /// A processor for the deliveries of this consumer.
    #[must_use]
    pub fn new(
        client: Client,
        jetstream: jetstream::Context,
        consumer: &'static ConsumerSpec,
        handler: Arc<H>,
    ) -> Self {
        for metric in [
            "passbook_dead_letters_total",
            "passbook_redeliveries_total",
            "passbook_worker_fetch_errors_total",
        ] {
            metrics::counter!(metric, "consumer" => consumer.name).increment(0);
        }
        for verdict in ["done", "dead_letter", "handed_back"] {
            count(consumer, verdict, 0);
        }
        Self { client, jetstream, consumer, handler }
    }

    /// Never ends.
    async fn keep_in_progress(&self, message: &Message) {
        loop {
            tokio::time::sleep(self.consumer.ack_wait / 3).await;
            self.ack(message, AckKind::Progress).await;
        }
    }

    async fn settle(&self, message: &Message, stop: &CancellationToken) {
        failpoint::point("job.fetched", message);
        let mut delivery = Received::fetched(message, SystemTime::now()).whole();
        if let Some(original) = requeued_id(message) {
            delivery.message_id = original;
        }
        if delivery.number > 1 {
            metrics::counter!("passbook_redeliveries_total", "consumer" => self.consumer.name)
                .increment(1);
        }
        let verdict = self.handler.run(&delivery, stop).await;
        failpoint::point("job.decided", message);
        let (name, error) = match verdict {
            JobVerdict::Done => {
                self.confirmed(message, AckKind::Ack).await;
                ("done", None)
            }
            JobVerdict::HandBack => {
                self.ack(message, AckKind::Nak(Some(HAND_BACK_DELAY))).await;
                ("handed_back", Some("handed back".to_owned()))
            }
            JobVerdict::DeadLetter(reason) => {
                let name = match self.dead_letter(message, &delivery, &reason, stop).await {
                    Lettered::Stored => {
                        self.confirmed(message, AckKind::Term).await;
                        "dead_letter"
                    }
                    Lettered::Requeued => {
                        self.confirmed(message, AckKind::Ack).await;
                        "handed_back"
                    }
                    Lettered::Stopped => {
                        self.ack(message, AckKind::Nak(Some(HAND_BACK_DELAY))).await;
                        "handed_back"
                    }
                };
                (name, Some(reason))
            }
        };
        count(self.consumer, name, 1);
        delivery.ended(self.consumer, error);
    }

    /// Publishes until the dead letter has its PubAck. After a time, puts the message at the end of
    /// its queue instead.
    async fn dead_letter(
        &self,
        message: &Message,
        delivery: &Delivery,
        reason: &str,
        stop: &CancellationToken,
    ) -> Lettered {
        let max_payload = self.client.server_info().max_payload;
        let letter = [dead_letter(self.consumer, delivery, reason, max_payload)];
        let begun = Instant::now();
        let mut pause = Pause::default();
        while let Err(missing) = publish_all(&self.jetstream, &letter).await {
            tracing::warn!(
                reason = missing.reason,
                "a dead letter got no PubAck; publishing again"
            );
            if !sleep_unless_stopped(pause.next(), stop).await {
                return Lettered::Stopped;
            }
            if begun.elapsed() > LETTER_LIMIT {
                let again = [again(message.headers.as_ref(), delivery)];
                if publish_all(&self.jetstream, &again).await.is_ok() {
                    return Lettered::Requeued;
                }
            }
        }
        Lettered::Stored
    }

    /// Acks, and waits for the server's confirmation for a moment: with one message
    /// out at a time, the next delivery waits for this ack.
    async fn confirmed(&self, message: &Message, kind: AckKind) {
        let acked = tokio::time::timeout(ACK_LIMIT, message.double_ack_with(kind)).await;
        if !matches!(acked, Ok(Ok(()))) {
            tracing::debug!(consumer = self.consumer.name, ?kind, "an ack was not confirmed");
        }
    }

    async fn ack(&self, message: &Message, kind: AckKind) {
        if let Err(error) = message.ack_with(kind).await {
            tracing::debug!(consumer = self.consumer.name, %error, ?kind, "sending an ack failed");
        }
    }
}

/// What became of a message that needs a dead letter.
enum Lettered {
    Stored,
    /// A copy of it is at the end of its queue.
    Requeued,
    /// The process stops.
    Stopped,
}

/// The copy of a message, with its headers. Its id is new: the stream would ignore a known one. A
/// header keeps the original id for the dead letter.
fn again(headers: Option<&HeaderMap>, delivery: &Delivery) -> Outgoing {
    let mut copy = HeaderMap::new();
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        let text = name.to_string();
        // The server's own headers would be instructions to it, and the place marks a dead letter.
        if !text.to_ascii_lowercase().starts_with("nats-") && text != letter::PLACE {
            values.iter().for_each(|value| copy.append(name.clone(), value.clone()));
        }
    }
    if wire_size(&copy) > MAX_HEADERS {
        copy = HeaderMap::new();
    }
    if delivery.message_id != delivery.place {
        copy.insert(letter::MESSAGE_ID, delivery.message_id.as_str());
    }
    Outgoing {
        subject: delivery.subject.to_string(),
        message_id: format!("{}.again", delivery.place),
        trace: delivery.trace,
        redrive_of: None,
        headers: copy,
        payload: delivery.payload.clone(),
        sharing: None,
    }
}

/// The original id of a message that was put at the end of its queue.
fn requeued_id(message: &Message) -> Option<String> {
    let headers = message.headers.as_ref()?;
    headers.get(NATS_MESSAGE_ID).filter(|id| id.as_str().ends_with(".again"))?;
    let original = headers.get(letter::MESSAGE_ID)?.to_string();
    (original.len() <= letter::MAX_MESSAGE_ID).then_some(original)
}

fn count(consumer: &ConsumerSpec, verdict: &'static str, messages: u64) {
    metrics::counter!("passbook_worker_messages_total",
        "consumer" => consumer.name, "verdict" => verdict)
    .increment(messages);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        pairs.iter().for_each(|(name, value)| headers.append(*name, *value));
        headers
    }

    fn delivery(headers: &HeaderMap, place: &str) -> Delivery {
        let received = Received {
            subject: &"message.process".into(),
            headers: Some(headers),
            payload: &"body".into(),
            place: place.to_owned(),
            number: 1,
            begun: SystemTime::now(),
        };
        received.whole()
    }

    #[test]
    fn a_requeued_message_keeps_its_headers_and_the_name_of_its_first_id() {
        let given = headers(&[
            ("Nats-Msg-Id", "first"),
            ("Nats-Rollup", "all"),
            (letter::PLACE, "job.1.1"),
            ("Origin", "test"),
            ("Origin", "other"),
        ]);
        let copy = again(Some(&given), &delivery(&given, "job.7.1"));
        assert_eq!((copy.message_id.as_str(), &copy.payload[..]), ("job.7.1.again", &b"body"[..]));
        let expected =
            headers(&[("Origin", "test"), ("Origin", "other"), (letter::MESSAGE_ID, "first")]);
        assert_eq!(copy.headers, expected);
        // Headers that may not fit beside the body are left out.
        let large = headers(&[("Nats-Msg-Id", "first"), ("Origin", &"x".repeat(5000))]);
        let copy = again(Some(&large), &delivery(&large, "job.7.1"));
        assert_eq!(copy.headers, headers(&[(letter::MESSAGE_ID, "first")]));
    }
}
