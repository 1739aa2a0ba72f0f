//! `passbook dlq discard`

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Result, bail, ensure};
use clap::Args;

use super::{
    claim::{Claim, Closer},
    listing::{Disposition, Listing},
    lookup::RecordLookup,
    process::process_selected,
    select::{Selected, Selection},
    stream::DeadLetterStream,
};
use crate::{
    arguments::{SystemArguments, non_blank},
    dead_letter::{Action, DeadLetter, KnownRecords, preview},
    output::Format,
    user,
};

/// Discard dead letters.
///
/// The letter is kept with the operator's name, the time and the reason, until the stream's maximum
/// age; `passbook dlq ls --closed` lists it. Exits with 1 if a letter was refused or not found.
/// Repeat an interrupted command to continue.
#[derive(Debug, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    selection: Selection,
    /// Why the letters are discarded.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run",
          value_parser = non_blank)]
    reason: Option<String>,
    /// Name of the operator. The default is the name of the user running this command.
    #[arg(long, value_name = "NAME", value_parser = non_blank)]
    by: Option<String>,
    /// Discard without asking for confirmation.
    #[arg(long, short)]
    yes: bool,
    /// Only show the selected letters and the state of their records, and discard nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    system: SystemArguments,
    #[command(flatten)]
    format: Format,
}

impl Discard {
    pub(super) async fn run(self) -> Result<ExitCode> {
        ensure!(
            self.yes || self.dry_run || io::stdin().is_terminal(),
            "there is no terminal for the confirmation: --yes discards without asking, --dry-run \
             shows the selected letters"
        );
        let system = self.system.resolve().await?;
        let lookup = match &system.databases {
            Some(urls) if self.dry_run => Some(RecordLookup::connect(urls).await?),
            _ => None,
        };
        let Some(stream) = DeadLetterStream::connect(system.nats).await? else {
            return Listing::new(self.format.output, None).finish();
        };
        let count = self.count(&stream).await?;
        if count > 0 && !self.yes && !self.dry_run && !confirm(count)? {
            bail!("nothing was discarded");
        }
        let by = self.by.clone().unwrap_or_else(user::current);
        let because = self.reason.as_deref();
        let closer = Closer { stream: &stream, action: Action::Discarded, by: &by, because };
        let mut listing = Listing::new(self.format.output, Some(count));
        let discard = async |letter: &DeadLetter, known: Option<&KnownRecords>| {
            self.discard(&closer, letter, known).await
        };
        let result =
            process_selected(&self.selection, &closer, lookup, &mut listing, discard).await;
        let code = listing.finish()?;
        result.map(|()| code)
    }

    /// The number of selected open letters.
    async fn count(&self, stream: &DeadLetterStream) -> Result<u64> {
        let mut batches = self.selection.open(stream).await?;
        let mut count = 0;
        while let Some(batch) = batches.next_batch().await? {
            count += batch.iter().filter_map(Selected::as_open).fold(0, |count, _| count + 1);
        }
        Ok(count)
    }

    async fn discard(
        &self,
        closer: &Closer<'_>,
        letter: &DeadLetter,
        known: Option<&KnownRecords>,
    ) -> Result<(Disposition, String)> {
        if self.dry_run {
            let state = known.map(|known| preview::record_state(letter, known));
            return Ok((Disposition::WouldDiscard, state.unwrap_or_default()));
        }
        let earlier = match closer.claim(letter).await? {
            Claim::Held { earlier, .. } => earlier,
            Claim::Taken(note) => return Ok(Closer::taken(letter, &note)),
            Claim::Gone(note) => return Ok(closer.closed_before(note.as_ref())),
        };
        closer.remove(letter).await?;
        let detail = match earlier {
            Some(note) => format!("{note}, finished now"),
            None => letter.reason().to_owned(),
        };
        Ok((Disposition::Discarded, detail))
    }
}

/// Asks at the terminal. Only `y` and `yes` confirm.
fn confirm(count: u64) -> Result<bool> {
    let letters = if count == 1 { "letter" } else { "letters" };
    let mut stderr = io::stderr();
    write!(stderr, "Discard {count} dead {letters} for good? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
