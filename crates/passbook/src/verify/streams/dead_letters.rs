//! Dead letters, and advisories about messages on their way to become some.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use contract::{
    DEAD_LETTER, MAX_DELIVERIES, TRANSACTION_RESULT,
    dead_letter::{self, closed_subjects, open_subjects},
};
use serde::Deserialize;

use super::{BATCH, MAX_SUSPECTS};
use crate::{
    age,
    broker::{self, Broker, StreamReader},
    verify::report::StreamCounts,
};

/// A result that can't have been settled.
pub(super) struct Suspect {
    pub(super) sequence: u64,
    /// The message's place in its stream, as its dead letter names it.
    pub(super) place: String,
    pub(super) finding: String,
}

/// Removes the suspects with a dead letter.
pub(super) async fn without_dead_letter(
    broker: &Broker,
    suspects: Vec<Suspect>,
) -> Result<Vec<Suspect>> {
    let stream = broker.stream(DEAD_LETTER).await?;
    let Some(stream) = stream.filter(|_| !suspects.is_empty()) else { return Ok(suspects) };
    let mut by_place: HashMap<_, _> =
        suspects.into_iter().map(|suspect| (suspect.place.clone(), suspect)).collect();
    // Open ones first: a letter closed meanwhile has its closing note before it is removed.
    for subjects in [open_subjects(TRANSACTION_RESULT), closed_subjects(TRANSACTION_RESULT)] {
        let until = stream.get_info().await?.state.last_sequence;
        let mut reader = StreamReader::open(broker, &stream, &subjects, until, BATCH).await?;
        while let Some(batch) = reader.next_batch().await? {
            for message in batch {
                if let Some(place) = message.headers.get(dead_letter::PLACE) {
                    by_place.remove(place.as_str());
                }
            }
        }
    }
    let mut suspects: Vec<_> = by_place.into_values().collect();
    suspects.sort_by_key(|suspect| suspect.sequence);
    Ok(suspects)
}

/// Sequences of the messages with an unprocessed advisory: a service will make them dead letters.
pub(super) async fn advised(broker: &Broker, consumer: &str) -> Result<HashSet<u64>> {
    #[derive(Deserialize)]
    struct Advisory {
        consumer: String,
        stream_seq: u64,
    }
    let Some(stream) = broker.stream(MAX_DELIVERIES).await? else { return Ok(HashSet::new()) };
    let mut advised = HashSet::new();
    let mut next = stream.cached_info().state.first_sequence;
    while advised.len() < MAX_SUSPECTS {
        let lookup = stream.get_first_raw_message_by_subject(">", next).await;
        let Some(message) = broker::optional_message(lookup)? else { break };
        next = message.sequence + 1;
        let advisory: Option<Advisory> = serde_json::from_slice(&message.payload).ok();
        let advisory = advisory.filter(|advisory| advisory.consumer == consumer);
        advised.extend(advisory.map(|advisory| advisory.stream_seq));
    }
    Ok(advised)
}

/// Counts the open dead letters by consumer, and finds the age of the oldest.
pub(super) async fn count_open(broker: &Broker, counts: &mut StreamCounts) -> Result<()> {
    let Some(stream) = broker.stream(DEAD_LETTER).await? else { return Ok(()) };
    let (subjects, until) = (open_subjects("*"), stream.cached_info().state.last_sequence);
    let mut reader = StreamReader::open(broker, &stream, &subjects, until, BATCH).await?;
    while let Some(batch) = reader.next_batch().await? {
        for message in batch {
            let subject = dead_letter::Subject::parse(&message.subject);
            let Some(dead_letter::Subject::Open { consumer, .. }) = subject else { continue };
            *counts.dead_letters_open.entry(consumer.to_owned()).or_default() += 1;
            let seconds = || age::since(message.time).as_secs();
            counts.oldest_dead_letter_seconds.get_or_insert_with(seconds);
        }
    }
    Ok(())
}
