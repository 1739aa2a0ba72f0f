//! The size of a stream, and messages that should not stay in it: open dead letters, and advisories.

use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::stream::{DiscardPolicy, Stream};
use contract::{DEAD_LETTER, MAX_DELIVERIES, StreamSpec, dead_letter::open_subjects};

use crate::{
    age,
    broker::{self, Broker, StreamReader},
    doctor::check::{Area, STUCK},
};

/// The name of a check with an alert of its own.
const OPEN_DEAD_LETTERS: &str = "open dead letters";
const ADVICE: &str = "see the broker's log: it does not return a message";

pub(super) async fn check(area: &mut Area, spec: &StreamSpec, broker: &Broker, stream: &Stream) {
    if spec.name == DEAD_LETTER {
        check_dead_letters(area, broker, stream).await;
    }
    check_size(area, spec, stream);
    let messages = stream.cached_info().state.messages;
    if spec.name == MAX_DELIVERIES && messages > 0 {
        check_advisories(area, spec, stream).await;
    } else if !area.has_finding(spec.name) {
        area.fine(spec.name, format!("{messages} messages"));
    }
}

/// The used part of a limit for a finding, in percent: long before the stream rejects messages.
const MAX_USED_PERCENT: u64 = 50;

/// Checks a stream that rejects messages once it is full. One that discards its oldest messages is
/// usually full.
fn check_size(area: &mut Area, spec: &StreamSpec, stream: &Stream) {
    let info = stream.cached_info();
    let (used, discard) = (info.state.bytes, info.config.discard);
    let Ok(limit @ 1..) = u64::try_from(info.config.max_bytes) else { return };
    if discard == DiscardPolicy::New && used.saturating_mul(100) / limit >= MAX_USED_PERCENT {
        let advice = if spec.name == DEAD_LETTER {
            "redrive or discard the open letters (`passbook dlq`), remove closed ones (see the runbook, \
             PassbookStreamFilling), or raise PASSBOOK_STREAM_STORAGE and run `passbook streams`"
        } else {
            "find out why its messages are not processed; to gain time, raise PASSBOOK_STREAM_STORAGE \
             and run `passbook streams`"
        };
        let detail = format!("{used} of {limit} bytes are used: once full, it rejects messages");
        area.finding(spec.name, detail, advice);
    }
}

async fn check_dead_letters(area: &mut Area, broker: &Broker, stream: &Stream) {
    let lookup = open_dead_letters(broker, stream);
    match area.attempt(OPEN_DEAD_LETTERS, ADVICE, lookup).await {
        None => {}
        Some((_, None)) => area.fine(OPEN_DEAD_LETTERS, "none"),
        Some((count, Some(oldest))) => {
            let advice = "list them with `passbook dlq ls`, then redrive or discard each";
            area.lasting(OPEN_DEAD_LETTERS, format!("{count} wait, the oldest"), oldest, advice);
        }
    }
}

/// The number of open dead letters, and the age of the oldest.
async fn open_dead_letters(broker: &Broker, stream: &Stream) -> Result<(u64, Option<Duration>)> {
    let until = stream.cached_info().state.last_sequence;
    let mut reader = StreamReader::open(broker, stream, &open_subjects("*"), until, 1).await?;
    let count = reader.remaining();
    let first = reader.next_batch().await?.unwrap_or_default();
    Ok((count, first.first().map(|message| age::since(message.time))))
}

/// An advisory stays until a service has made its message a dead letter.
async fn check_advisories(area: &mut Area, spec: &StreamSpec, stream: &Stream) {
    let state = &stream.cached_info().state;
    let lookup = async {
        let first = stream.get_first_raw_message_by_subject(">", state.first_sequence).await;
        broker::optional_message(first)
    };
    let Some(first) = area.attempt(spec.name, ADVICE, lookup).await.flatten() else { return };
    let age = age::since(first.time);
    if age > STUCK {
        let detail = format!("{} advisories about undeliverable messages wait", state.messages);
        let advice = "start the services: they make these messages dead letters";
        area.lasting(spec.name, detail, age, advice);
    } else {
        area.fine(spec.name, format!("{} messages", state.messages));
    }
}
