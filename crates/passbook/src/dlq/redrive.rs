//! `passbook dlq redrive`

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::{
    DeadLetters,
    books::{Books, Known},
    closing::{Claim, Closing, NotSent},
    letter::{Action, Letter},
    listing::{Done, Listing},
    prospect::{self, Prospect},
    select::{Found, Selection},
};
use crate::{
    cli::{System, said, user},
    output::Format,
};

/// Send the messages of dead letters again, to where they were published.
///
/// Looks into both databases first: a message that would only come back as a
/// dead letter, or move money that nobody asked for, is refused. A letter
/// whose message was sent is open no more; `passbook dlq ls --closed` lists it.
/// Exits with 1 when something was refused or not found. Interrupted, the same
/// command again goes on where it was.
#[derive(Debug, Args)]
// `--reason` is short for `--reason-contains`.
#[command(infer_long_args = true)]
pub(crate) struct Redrive {
    #[command(flatten)]
    selection: Selection,
    /// Only show what would become of each message, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Send also what would be refused, and without a look into the databases if their URLs are
    /// not known.
    #[arg(long)]
    force: bool,
    /// Who does this. Without it, the name of the user on this machine.
    #[arg(long, value_name = "NAME", value_parser = said)]
    by: Option<String>,
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    format: Format,
}

impl Redrive {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let addresses = self.system.find().await?;
        let mut books = match &addresses.databases {
            Some(urls) => Some(Books::open(urls).await?),
            None if self.force && !self.dry_run => None,
            None => anyhow::bail!(
                "the URLs of both databases are needed, to see what a message would do; --force \
                 sends it without"
            ),
        };
        let Some(letters) = DeadLetters::at(addresses.nats).await? else {
            return Listing::new(self.format.output, None).finish();
        };
        let mut listing = Listing::new(self.format.output, None);
        let outcome = self.each(&letters, books.as_mut(), &mut listing).await;
        let code = listing.finish()?;
        outcome.map(|()| code)
    }

    async fn each(
        &self,
        letters: &DeadLetters,
        mut books: Option<&mut Books>,
        listing: &mut Listing,
    ) -> Result<()> {
        let by = self.by.clone().unwrap_or_else(user);
        let closing = Closing { letters, action: Action::Redriven, by: &by, because: None };
        let mut selected = self.selection.of(letters).await?;
        while let Some(found) = selected.next().await? {
            let open: Vec<_> = found.iter().filter_map(Found::open).collect();
            let known = match &mut books {
                Some(books) => Some(books.look_up(&open).await?),
                None => None,
            };
            for found in &found {
                match found {
                    Found::Open(letter) => {
                        let (done, detail) = self.one(&closing, letter, known.as_ref()).await?;
                        listing.tell(letter, done, &detail)?;
                    }
                    Found::Closed(letter) => {
                        let (done, detail) = closing.closed_before(letter.closed.as_ref());
                        listing.tell(letter, done, &detail)?;
                    }
                    Found::Nothing(id) => listing.tell_missing(*id)?,
                }
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        closing: &Closing<'_>,
        letter: &Letter,
        known: Option<&Known>,
    ) -> Result<(Done, String)> {
        if let Some(length) = letter.truncated_from() {
            return Ok((
                Done::Refused,
                format!("its body was cut from {length} bytes: there is nothing whole to send"),
            ));
        }
        let prospect = known.map(|known| prospect::of(letter, known));
        let detail = match prospect {
            None => "sent without a look into the databases".to_owned(),
            Some(Prospect::Processed(effect)) => effect,
            Some(Prospect::ComesBack(why)) => {
                let why = format!("it would come back as a dead letter: {why}");
                if !self.force {
                    return Ok((Done::Refused, format!("{why}; --force sends it")));
                }
                why
            }
            Some(Prospect::Harms(why)) if self.force => why,
            Some(Prospect::Harms(why)) => {
                return Ok((Done::Refused, format!("{why}; --force sends it")));
            }
        };
        if self.dry_run {
            return Ok((Done::WouldRedrive, detail));
        }
        let (sequence, detail) = match closing.claim(letter).await? {
            Claim::Held { sequence, begun: None } => (sequence, detail),
            Claim::Held { sequence, begun: Some(begun) } => {
                (sequence, format!("{detail} (begun by {} at {})", begun.by, begun.at))
            }
            other => return Ok(closing.not_ours(letter, other)),
        };
        match closing.send_again(letter).await {
            Ok(()) => closing.remove(letter).await?,
            Err(NotSent::Refused(why)) => {
                closing.take_back(sequence).await;
                return Ok((Done::Refused, format!("the broker did not take it: {why}")));
            }
            Err(NotSent::Unknown(error)) => {
                return Err(error).with_context(|| {
                    format!("letter {}: run the command again, which goes on there", letter.id)
                });
            }
        }
        Ok((Done::Redriven, detail))
    }
}
