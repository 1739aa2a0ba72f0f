//! `passbook dlq ls`

use std::{collections::VecDeque, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::{
    DeadLetters,
    letter::{Letter, closed_subjects, open_subjects, rfc3339},
    select::{Filter, walk},
};
use crate::{
    cli::System,
    output::{self, Format, Output},
};

/// Characters of a reason that a table shows.
const REASON: usize = 100;

/// List the dead letters, newest first.
///
/// Exits with 1 when there are open ones, so that a script can tell.
#[derive(Debug, Args)]
// `--reason` is short for `--reason-contains`.
#[command(infer_long_args = true)]
pub(crate) struct Ls {
    #[command(flatten)]
    filter: Filter,
    /// Those that are closed: what became of them, by whom and why.
    #[arg(long)]
    closed: bool,
    /// Letters listed at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    format: Format,
}

impl Ls {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let mut newest = VecDeque::new();
        let mut all = 0_usize;
        if let Some(letters) = DeadLetters::at(self.system.find().await?.nats).await? {
            let subjects = if self.closed { closed_subjects("*") } else { open_subjects("*") };
            walk(&letters, &subjects, &self.filter, |letter| {
                all += 1;
                newest.push_front(letter);
                newest.truncate(self.limit);
            })
            .await?;
        }
        match self.format.output {
            Output::Json => output::json(&newest.iter().map(Letter::view).collect::<Vec<_>>())?,
            Output::Table if all == 0 => output::line("no dead letters")?,
            Output::Table => {
                self.print(&newest)?;
                output::line(&format!("\n{} of {all}", newest.len()))?;
            }
        }
        Ok(ExitCode::from(u8::from(all > 0 && !self.closed)))
    }

    fn print(&self, letters: &VecDeque<Letter>) -> Result<()> {
        let row = |letter: &Letter| {
            let record = letter.record.map(|it| it.to_string()).unwrap_or_default();
            let mut row = vec![letter.id.to_string(), rfc3339(letter.kept_at)];
            row.extend([letter.consumer.clone(), record, cut(letter.reason())]);
            row.extend(letter.closed.iter().map(|closed| closed.told()));
            row
        };
        let mut headings = vec!["ID", "KEPT AT", "CONSUMER", "RECORD", "REASON"];
        headings.extend(self.closed.then_some("CLOSED"));
        output::table(&headings, letters.iter().map(row))
    }
}

fn cut(reason: &str) -> String {
    match reason.char_indices().nth(REASON) {
        Some((at, _)) => format!("{}…", reason.get(..at).unwrap_or_default()),
        None => reason.to_owned(),
    }
}
