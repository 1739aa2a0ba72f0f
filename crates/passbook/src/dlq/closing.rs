//! Closing a letter: claimed, done, removed. Each step can be repeated.
//!
//! The claim says what is being done, by whom and why, and keeps the letter's
//! headers and body. It lies on a subject that only this letter has, and the
//! broker takes it only if nothing lies there yet: of two people who close the
//! same letter at a time, one is first and the other is told. A message id
//! would not do for that: the broker forgets it after two minutes.

use anyhow::{Context, Result, ensure};
use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{context::PublishErrorKind, message::PublishMessage},
};

use super::{
    DeadLetters,
    letter::{Action, Closed, Letter},
    listing::Done,
};
use crate::broker;

/// Characters of what people say, in a header.
const SAID: usize = 500;
/// What the broker adds around headers, generously.
const AROUND: usize = 64;

/// Somebody who closes letters.
pub(super) struct Closing<'a> {
    pub(super) letters: &'a DeadLetters,
    pub(super) action: Action,
    pub(super) by: &'a str,
    pub(super) because: Option<&'a str>,
}

/// What became of the attempt to claim a letter.
pub(super) enum Claim {
    /// It is ours to close, under the claim at this sequence. Somebody else's,
    /// who wanted the same and did not finish, is as good.
    Held {
        sequence: u64,
        /// Who began it, if it was not begun now.
        begun: Option<Closed>,
    },
    /// Somebody is doing otherwise with it, and has not finished.
    Taken(Closed),
    /// Somebody else has closed it meanwhile.
    Gone(Option<Closed>),
}

/// Why a message was not sent again.
pub(super) enum NotSent {
    /// The broker refused it: nothing was stored.
    Refused(String),
    /// It may be stored or not.
    Unknown(anyhow::Error),
}

impl Closing<'_> {
    /// Writes what is about to be done, unless somebody else was first.
    ///
    /// # Errors
    /// The broker's. The claim may stand then: the same command again goes on.
    pub(super) async fn claim(&self, letter: &Letter) -> Result<Claim> {
        let message = self.message(letter).expected_last_subject_sequence(0);
        let jetstream = &self.letters.broker.jetstream;
        let sent = jetstream.send_publish(letter.closed_subject(), message).await;
        let kept = match sent {
            Ok(sent) => sent.await,
            Err(error) => Err(error),
        };
        match kept {
            Ok(ack) if ack.sequence > letter.id => {
                Ok(Claim::Held { sequence: ack.sequence, begun: None })
            }
            Ok(ack) => {
                self.take_back(ack.sequence).await;
                anyhow::bail!("DEAD_LETTER was made anew meanwhile: nothing was done")
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                self.look_at_claim(letter).await
            }
            Err(error) => Err(error).context("writing down what is done with a letter"),
        }
    }

    async fn look_at_claim(&self, letter: &Letter) -> Result<Claim> {
        let stream = &self.letters.stream;
        let last = stream.get_last_raw_message_by_subject(&letter.closed_subject()).await;
        let claim = broker::found(last)?.and_then(Letter::read).and_then(|it| it.closed);
        let open = broker::found(stream.get_raw_message(letter.id).await)?.is_some();
        Ok(match claim {
            claim if !open => Claim::Gone(claim),
            Some(claim) if claim.action == self.action => {
                Claim::Held { sequence: claim.sequence, begun: Some(claim) }
            }
            Some(claim) => Claim::Taken(claim),
            // Taken back just now.
            None => anyhow::bail!("letter {} was in somebody's hands: try again", letter.id),
        })
    }

    /// What is kept of the letter.
    fn message(&self, letter: &Letter) -> PublishMessage {
        let mut headers = HeaderMap::new();
        for (name, values) in letter.headers.iter() {
            // Those are orders to the broker.
            if !name.to_string().starts_with("Nats-") {
                values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
            }
        }
        headers.insert("Passbook-Closed", self.action.as_str());
        headers.insert("Passbook-Closed-By", one_line(self.by));
        if let Some(because) = self.because {
            headers.insert("Passbook-Closed-Because", one_line(because));
        }
        let size: usize = headers
            .iter()
            .flat_map(|(name, values)| {
                let name = name.to_string().len();
                values.iter().map(move |value| name + value.as_str().len() + 4)
            })
            .sum();
        let largest = self.letters.broker.client.server_info().max_payload;
        let most = largest.saturating_sub(size + AROUND);
        let payload = letter.payload.slice(..letter.payload.len().min(most));
        if payload.len() < letter.payload.len() && letter.truncated_from().is_none() {
            headers.insert("Passbook-Truncated-From", letter.payload.len().to_string());
        }
        PublishMessage::build().headers(headers).payload(payload)
    }

    /// Takes a claim back under which nothing was done.
    pub(super) async fn take_back(&self, sequence: u64) {
        if let Err(error) = self.letters.stream.delete_message(sequence).await {
            tracing::warn!(%error, "the note that a letter is being closed could not be removed");
        }
    }

    /// Sends the letter's message again, under an id of its own: the stream may
    /// still remember the first. The same letter always has the same id, so
    /// that a second attempt within the stream's memory is no second message.
    pub(super) async fn send_again(&self, letter: &Letter) -> Result<(), NotSent> {
        let Some(subject) = letter.subject() else {
            return Err(NotSent::Refused("it does not say where it was published".to_owned()));
        };
        let mut headers = HeaderMap::new();
        for (name, values) in letter.headers.iter() {
            if matches!(name.to_string().as_str(), "traceparent" | "tracestate") {
                values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
            }
        }
        let first = letter.message_id().or(letter.place()).unwrap_or("none");
        headers.insert(NATS_MESSAGE_ID, format!("{first}.letter-{}", letter.key()));
        let message = PublishMessage::build()
            .headers(headers)
            .payload(letter.payload.clone())
            .expected_stream(&letter.stream);
        let jetstream = &self.letters.broker.jetstream;
        let sent = jetstream.send_publish(subject.to_owned(), message).await;
        let kept = match sent {
            Ok(sent) => sent.await,
            Err(error) => Err(error),
        };
        match kept {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.kind() {
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
                    NotSent::Unknown(error.into())
                }
                _ => NotSent::Refused(crate::causes(&error.into())),
            }),
        }
    }

    /// Removes the letter from the open ones.
    ///
    /// # Errors
    /// The broker's; it may be removed all the same.
    pub(super) async fn remove(&self, letter: &Letter) -> Result<()> {
        let stream = &self.letters.stream;
        if let Err(error) = stream.delete_message(letter.id).await {
            let there = broker::found(stream.get_raw_message(letter.id).await)?;
            ensure!(there.is_none(), "removing letter {}: {error}", letter.id);
        }
        Ok(())
    }
}

impl Closing<'_> {
    /// What to tell about a letter that was found closed.
    pub(super) fn closed_before(&self, closed: Option<&Closed>) -> (Done, String) {
        match closed {
            Some(closed) if closed.action == self.action => (Done::AlreadyClosed, closed.told()),
            Some(closed) => (Done::ClosedOtherwise, closed.told()),
            None => (Done::ClosedOtherwise, "it was removed meanwhile".to_owned()),
        }
    }

    /// What to tell about a letter that could not be claimed.
    pub(super) fn not_ours(&self, letter: &Letter, claim: Claim) -> (Done, String) {
        match claim {
            Claim::Taken(closed) => {
                let command = match closed.action {
                    Action::Redriven => "redrive",
                    Action::Discarded => "discard",
                };
                let detail = format!(
                    "it is being {}, which is not finished: `passbook dlq {command} {}` does that",
                    closed.told(),
                    letter.id
                );
                (Done::Refused, detail)
            }
            Claim::Gone(closed) => self.closed_before(closed.as_ref()),
            Claim::Held { .. } => (Done::Refused, String::new()),
        }
    }
}

fn one_line(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(SAID).collect::<String>().trim().to_owned()
}
