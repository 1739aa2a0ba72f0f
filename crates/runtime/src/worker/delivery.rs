//! One delivery of a command or result, as a handler sees it. A message has one, or is
//! a bundle of several.

use std::time::SystemTime;

use async_nats::{HeaderMap, Subject, header::NATS_MESSAGE_ID, jetstream};
use contract::{
    ConsumerSpec,
    bundle::{Bundle, InvalidBundle},
    dead_letter::{MAX_MESSAGE_ID, message_place, part_place},
};
use tokio_util::bytes::Bytes;

use crate::telemetry::trace::{Processed, Trace};

/// One delivery of a command, a result or another message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The subject of the message.
    pub subject: Subject,
    /// The `Nats-Msg-Id`, or the id of a part; without one, the place.
    pub message_id: String,
    /// The span of processing it.
    pub trace: Trace,
    /// The body: of a bundle, that of this part.
    pub payload: Bytes,
    /// The place of the message; of a bundle, with the part's index.
    pub(super) place: String,
    /// The delivery count: 1 for the first.
    pub(super) number: i64,
    /// The time of the fetch.
    pub(super) begun: SystemTime,
}

impl Delivery {
    /// Records the span of processing it, if its trace is recorded.
    pub(super) fn ended(&self, consumer: &ConsumerSpec, error: Option<String>) {
        if self.trace.is_recorded() {
            self.trace.processed(Processed {
                begun: self.begun,
                consumer: consumer.name,
                subject: &self.subject,
                message_id: &self.message_id,
                delivered: self.number,
                error,
            });
        }
    }
}

/// A message, fetched or read from its stream.
#[derive(Debug)]
pub(super) struct Received<'a> {
    pub(super) subject: &'a Subject,
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) payload: &'a Bytes,
    /// See [`message_place`].
    pub(super) place: String,
    pub(super) number: i64,
    pub(super) begun: SystemTime,
}

impl<'a> Received<'a> {
    pub(super) fn fetched(message: &'a jetstream::Message, begun: SystemTime) -> Self {
        let info = message.info();
        let number = info.as_ref().map_or(1, |info| info.delivered);
        let place = info.map_or_else(
            |_| message.reply.as_ref().map_or_else(String::new, ToString::to_string),
            |info| message_place(info.stream, info.stream_sequence, info.published),
        );
        let (subject, headers) = (&message.subject, message.headers.as_ref());
        Self { subject, headers, payload: &message.payload, place, number, begun }
    }

    /// The message as one delivery.
    pub(super) fn whole(&self) -> Delivery {
        let given = self.headers.and_then(|headers| headers.get(NATS_MESSAGE_ID));
        self.delivery(
            given.map(|id| id.as_str()),
            Trace::of_message(self.headers),
            self.payload.clone(),
            self.place.clone(),
        )
    }

    /// The parts of the message: itself, if it is not a bundle.
    ///
    /// # Errors
    /// The reason why the bundle is invalid as a whole.
    pub(super) fn parts(&self, bundle: Option<Bundle>) -> Result<Vec<Delivery>, InvalidBundle> {
        let parts = bundle.map_or(Ok(None), |bundle| bundle.parse(self.payload))?;
        let Some(parts) = parts else { return Ok(vec![self.whole()]) };
        let part = |(index, part): (usize, contract::bundle::Part<'_>)| {
            self.delivery(
                part.message_id.as_deref(),
                Trace::of_part(part.traceparent.as_deref()),
                self.payload.slice_ref(part.body.as_bytes()),
                part_place(&self.place, index),
            )
        };
        Ok(parts.into_iter().enumerate().map(part).collect())
    }

    fn delivery(
        &self,
        message_id: Option<&str>,
        trace: Trace,
        payload: Bytes,
        place: String,
    ) -> Delivery {
        let usable = message_id.filter(|id| {
            (1..=MAX_MESSAGE_ID).contains(&id.len()) && !id.contains(|c: char| c.is_control())
        });
        Delivery {
            subject: self.subject.clone(),
            message_id: usable.unwrap_or(&place).to_owned(),
            trace,
            payload,
            place,
            number: self.number,
            begun: self.begun,
        }
    }
}
