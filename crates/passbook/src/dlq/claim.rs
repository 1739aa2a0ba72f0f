//! A dead letter is closed in three repeatable steps: claim it on a subject of its own, which the
//! broker accepts once; publish the message again, if it is a replay; remove the dead letter.
//!
//! The claim is a closing note with the operator, the action and the reason. It keeps the letter's
//! headers and body. The broker stores the note only if its subject is empty. If two operators close
//! the same letter, the second one is therefore told of the first. A message id would not suffice,
//! because the broker forgets it after two minutes.

use anyhow::{Context, Result, ensure};
use async_nats::{
    HeaderMap, HeaderValue,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{context::PublishErrorKind, message::PublishMessage},
};
use contract::dead_letter::{self, header_text};
use runtime::nats::outgoing::{note_truncation, wire_size};

use super::{listing::Disposition, stream::DeadLetterStream};
use crate::{
    broker,
    dead_letter::{Action, ClosingNote, DeadLetter},
};

/// Maximum length of a copied header's value, in bytes. Earlier releases copied values of any
/// length, and the broker limits the headers of a message to 64 KiB.
const MAX_VALUE: usize = 4096;

/// The value, or its beginning.
fn shortened(value: &HeaderValue) -> HeaderValue {
    let text = value.as_str();
    HeaderValue::from(&text[..text.floor_char_boundary(MAX_VALUE)])
}

/// Closes letters on behalf of an operator.
pub(super) struct Closer<'a> {
    pub(super) stream: &'a DeadLetterStream,
    pub(super) action: Action,
    /// The operator.
    pub(super) by: &'a str,
    /// The operator's reason.
    pub(super) because: Option<&'a str>,
}

/// The result of claiming a letter.
pub(super) enum Claim {
    /// The letter is claimed for this action, by the note at this sequence.
    Held {
        sequence: u64,
        /// The note of an earlier, unfinished attempt at the same action.
        earlier: Option<ClosingNote>,
    },
    /// The letter is claimed for another action, and not removed yet.
    Taken(ClosingNote),
    /// The letter was removed meanwhile.
    Gone(Option<ClosingNote>),
}

impl Closer<'_> {
    /// Writes the closing note, unless there is one already.
    ///
    /// # Errors
    /// The broker's. The note may be stored then; repeating the command continues from it.
    pub(super) async fn claim(&self, letter: &DeadLetter) -> Result<Claim> {
        let message = self.note(letter).expected_last_subject_sequence(0);
        let jetstream = &self.stream.broker.jetstream;
        let published = match jetstream.send_publish(letter.closed_subject(), message).await {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match published {
            Ok(ack) if ack.sequence > letter.id => {
                Ok(Claim::Held { sequence: ack.sequence, earlier: None })
            }
            Ok(ack) => {
                self.withdraw(ack.sequence).await;
                anyhow::bail!("DEAD_LETTER was recreated during this command: nothing was done")
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                self.existing_claim(letter).await
            }
            Err(error) => Err(error).context("claiming a letter"),
        }
    }

    async fn existing_claim(&self, letter: &DeadLetter) -> Result<Claim> {
        let stream = &self.stream.stream;
        let last = stream.get_last_raw_message_by_subject(&letter.closed_subject()).await;
        let note = broker::optional_message(last)?
            .and_then(DeadLetter::parse)
            .and_then(|letter| letter.closed);
        let is_open = broker::optional_message(stream.get_raw_message(letter.id).await)?.is_some();
        Ok(match note {
            note if !is_open => Claim::Gone(note),
            Some(note) if note.action == self.action => {
                Claim::Held { sequence: note.sequence, earlier: Some(note) }
            }
            Some(note) => Claim::Taken(note),
            // The note was withdrawn just now.
            None => {
                anyhow::bail!("letter {} was claimed by another operator: try again", letter.id)
            }
        })
    }

    /// The closing note, with the letter's headers and body.
    fn note(&self, letter: &DeadLetter) -> PublishMessage {
        let mut headers = HeaderMap::new();
        for (name, values) in letter.headers.iter() {
            // These headers are instructions to the broker.
            if !name.to_string().starts_with("Nats-") {
                values.iter().for_each(|value| headers.append(name.clone(), shortened(value)));
            }
        }
        headers.insert(dead_letter::CLOSED, self.action.as_str());
        headers.insert(dead_letter::CLOSED_BY, header_text(self.by));
        if let Some(because) = self.because {
            headers.insert(dead_letter::CLOSED_BECAUSE, header_text(because));
        }
        let max_payload = self.stream.broker.client.max_payload();
        let mut payload = letter.payload.clone();
        // The broker's condition on the last sequence becomes a header as well.
        let mut sent = headers.clone();
        sent.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        if wire_size(&sent) + payload.len() > max_payload {
            for headers in [&mut headers, &mut sent] {
                note_truncation(headers, letter.payload.len());
            }
            payload.truncate(max_payload.saturating_sub(wire_size(&sent)));
        }
        PublishMessage::build().headers(headers).payload(payload)
    }

    /// Removes a closing note before any action.
    pub(super) async fn withdraw(&self, sequence: u64) {
        if let Err(error) = self.stream.stream.delete_message(sequence).await {
            tracing::warn!(%error, "the closing note at sequence {sequence} could not be removed");
        }
    }

    /// Removes the open letter.
    ///
    /// # Errors
    /// The broker's; the letter may be removed nevertheless.
    pub(super) async fn remove(&self, letter: &DeadLetter) -> Result<()> {
        let stream = &self.stream.stream;
        if let Err(error) = stream.delete_message(letter.id).await {
            let message = broker::optional_message(stream.get_raw_message(letter.id).await)?;
            ensure!(message.is_none(), "removing letter {}: {error}", letter.id);
        }
        Ok(())
    }

    /// Describes a letter closed before this command.
    pub(super) fn closed_before(&self, note: Option<&ClosingNote>) -> (Disposition, String) {
        match note {
            Some(note) if note.action == self.action => {
                (Disposition::AlreadyClosed, note.to_string())
            }
            Some(note) => (Disposition::ClosedOtherwise, note.to_string()),
            None => (Disposition::ClosedOtherwise, "it was removed meanwhile".to_owned()),
        }
    }

    /// Describes a letter with an unfinished claim for another action.
    pub(super) fn taken(letter: &DeadLetter, note: &ClosingNote) -> (Disposition, String) {
        let command = match note.action {
            Action::Replayed => "redrive",
            Action::Discarded => "discard",
        };
        let detail = format!(
            "it is claimed, but not finished: {note}. Finish it with `passbook dlq {command} {}`",
            letter.id
        );
        (Disposition::Refused, detail)
    }
}
