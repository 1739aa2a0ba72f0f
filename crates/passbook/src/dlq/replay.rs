//! `passbook dlq redrive`

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use contract::{StreamStorage, Topology};

use super::{
    claim::{Claim, Closer},
    listing::{Disposition, Listing},
    lookup::RecordLookup,
    process::process_selected,
    republish::{RepublishError, republish},
    select::Selection,
    stream::DeadLetterStream,
};
use crate::{
    arguments::{ReportQueueArguments, SystemArguments, non_blank},
    dead_letter::{
        Action, DeadLetter, KnownRecords,
        preview::{self, Preview},
    },
    output::Format,
    user,
};

/// Publish the messages of dead letters again, to their original subjects.
///
/// Looks up each record in both databases first. A message is refused if it would become a dead
/// letter again, or would move money nobody asked for. With --force, too, it is refused if its
/// subject is not one of its stream, or if it is incomplete. A letter is closed once its message is
/// published; `passbook dlq ls --closed` lists it. Exits with 1 if a letter was refused or not
/// found. Repeat an interrupted command to continue.
#[derive(Debug, Args)]
// `--reason` is short for `--reason-contains`.
#[command(infer_long_args = true)]
pub(crate) struct Replay {
    #[command(flatten)]
    selection: Selection,
    /// Only show the effect of each message, and publish nothing.
    #[arg(long)]
    dry_run: bool,
    /// Publish refused messages too. Without database URLs, publish without looking up records.
    #[arg(long)]
    force: bool,
    /// Name of the operator. The default is the name of the user running this command.
    #[arg(long, value_name = "NAME", value_parser = non_blank)]
    by: Option<String>,
    #[command(flatten)]
    report_queue: ReportQueueArguments,
    #[command(flatten)]
    system: SystemArguments,
    #[command(flatten)]
    format: Format,
}

impl Replay {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let system = self.system.resolve().await?;
        let lookup = match &system.databases {
            Some(urls) => Some(RecordLookup::connect(urls).await?),
            None if self.force && !self.dry_run => None,
            None => anyhow::bail!(
                "the URLs of both databases are needed to preview the effect of a message; --force \
                 publishes without a preview"
            ),
        };
        let Some(stream) = DeadLetterStream::connect(system.nats).await? else {
            return Listing::new(self.format.output, None).finish();
        };
        let by = self.by.clone().unwrap_or_else(user::current);
        let closer = Closer { stream: &stream, action: Action::Replayed, by: &by, because: None };
        let mut listing = Listing::new(self.format.output, None);
        let topology = self.report_queue.topology(StreamStorage::DEFAULT);
        let replay = async |letter: &DeadLetter, known: Option<&KnownRecords>| {
            self.replay(&closer, letter, known, topology).await
        };
        let result = process_selected(&self.selection, &closer, lookup, &mut listing, replay).await;
        let code = listing.finish()?;
        result.map(|()| code)
    }

    async fn replay(
        &self,
        closer: &Closer<'_>,
        letter: &DeadLetter,
        known: Option<&KnownRecords>,
        topology: &Topology,
    ) -> Result<(Disposition, String)> {
        let detail = match self.preview(letter, known, topology) {
            Ok(detail) => detail,
            Err(reason) => return Ok((Disposition::Refused, reason)),
        };
        if self.dry_run {
            return Ok((Disposition::WouldReplay, detail));
        }
        let (sequence, detail) = match closer.claim(letter).await? {
            Claim::Held { sequence, earlier: None } => (sequence, detail),
            Claim::Held { sequence, earlier: Some(note) } => {
                (sequence, format!("{detail} (started by {} at {})", note.by, note.at))
            }
            Claim::Taken(note) => return Ok(Closer::taken(letter, &note)),
            Claim::Gone(note) => return Ok(closer.closed_before(note.as_ref())),
        };
        match republish(closer.stream, letter).await {
            Ok(()) => closer.remove(letter).await?,
            Err(RepublishError::Rejected(reason)) => {
                closer.withdraw(sequence).await;
                let detail = format!("the broker rejected the message: {reason}");
                return Ok((Disposition::Refused, detail));
            }
            Err(RepublishError::Unknown(error)) => {
                return Err(error).with_context(|| {
                    format!("letter {}: repeat the command to continue from it", letter.id)
                });
            }
        }
        Ok((Disposition::Replayed, detail))
    }

    /// The expected effect, or why the message is refused. `--force` allows the messages whose
    /// effect is unwanted, but not a truncated one, nor one for another stream. A service writes
    /// dead letters, but may not publish what the operator may.
    fn preview(
        &self,
        letter: &DeadLetter,
        known: Option<&KnownRecords>,
        topology: &Topology,
    ) -> Result<String, String> {
        let stream = topology.stream(&letter.stream);
        let subject = letter.subject().unwrap_or_default();
        if !stream.is_some_and(|stream| stream.captures(subject)) {
            return Err(format!(
                "it names the subject {subject:?}, which is not one of the stream {}",
                letter.stream
            ));
        }
        if let Some(length) = letter.truncated_from() {
            return Err(format!(
                "its body was cut from {length} bytes, so the message is incomplete"
            ));
        }
        let Some(known) = known else {
            return Ok("published without looking up its record".to_owned());
        };
        let unwanted = match preview::of(letter, known) {
            Preview::Processed(effect) => return Ok(effect),
            Preview::DeadLetteredAgain(reason) => {
                format!("it would come back as a dead letter: {reason}")
            }
            Preview::Harmful(effect) => effect,
        };
        if self.force { Ok(unwanted) } else { Err(format!("{unwanted}; --force publishes it")) }
    }
}
