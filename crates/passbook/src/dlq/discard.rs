//! `passbook dlq discard`

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Result, bail, ensure};
use clap::Args;

use super::{
    DeadLetters,
    books::{Books, Known},
    closing::{Claim, Closing},
    letter::{Action, Letter},
    listing::{Done, Listing},
    prospect,
    select::{Found, Selection},
};
use crate::{
    cli::{System, said, user},
    output::Format,
};

/// Give dead letters up.
///
/// Who did it, when and why is kept with the letter, for as long as the stream
/// keeps anything; `passbook dlq ls --closed` lists it. Exits with 1 when
/// something was refused or not found. Interrupted, the same command again goes
/// on where it was.
#[derive(Debug, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    selection: Selection,
    /// Why they are given up.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run",
          value_parser = said)]
    reason: Option<String>,
    /// Who does this. Without it, the name of the user on this machine.
    #[arg(long, value_name = "NAME", value_parser = said)]
    by: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Only show which letters are meant and how their records stand, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    format: Format,
}

impl Discard {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let terminal = io::stdin().is_terminal();
        ensure!(
            self.yes || self.dry_run || terminal,
            "nobody can be asked here: --yes discards without asking, --dry-run shows what"
        );
        let addresses = self.system.find().await?;
        let mut books = match &addresses.databases {
            Some(urls) if self.dry_run => Some(Books::open(urls).await?),
            _ => None,
        };
        let Some(letters) = DeadLetters::at(addresses.nats).await? else {
            return Listing::new(self.format.output, None).finish();
        };
        let meant = self.count(&letters).await?;
        if meant > 0 && !self.yes && !self.dry_run && !asked(meant)? {
            bail!("nothing was discarded");
        }
        let mut listing = Listing::new(self.format.output, Some(meant));
        let outcome = self.each(&letters, books.as_mut(), &mut listing).await;
        let code = listing.finish()?;
        outcome.map(|()| code)
    }

    /// How many open letters are meant.
    async fn count(&self, letters: &DeadLetters) -> Result<u64> {
        let mut selected = self.selection.of(letters).await?;
        let mut count = 0;
        while let Some(found) = selected.next().await? {
            count += found.iter().filter_map(Found::open).fold(0, |count, _| count + 1);
        }
        Ok(count)
    }

    async fn each(
        &self,
        letters: &DeadLetters,
        mut books: Option<&mut Books>,
        listing: &mut Listing,
    ) -> Result<()> {
        let by = self.by.clone().unwrap_or_else(user);
        let because = self.reason.as_deref();
        let closing = Closing { letters, action: Action::Discarded, by: &by, because };
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
        if self.dry_run {
            let standing = known.map(|known| prospect::standing(letter, known));
            return Ok((Done::WouldDiscard, standing.unwrap_or_default()));
        }
        let begun = match closing.claim(letter).await? {
            Claim::Held { begun, .. } => begun,
            other => return Ok(closing.not_ours(letter, other)),
        };
        closing.remove(letter).await?;
        let detail = match begun {
            Some(begun) => format!("{}, finished now", begun.told()),
            None => letter.reason().to_owned(),
        };
        Ok((Done::Discarded, detail))
    }
}

/// Asks the person at the terminal; only a yes is one.
fn asked(letters: u64) -> Result<bool> {
    let what = if letters == 1 { "letter" } else { "letters" };
    let mut stderr = io::stderr();
    write!(stderr, "Discard {letters} dead {what} for good? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
