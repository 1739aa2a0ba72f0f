//! `passbook dlq ls`

use std::{collections::VecDeque, process::ExitCode};

use anyhow::Result;
use clap::Args;

use contract::dead_letter::{closed_subjects, open_subjects};

use super::{
    select::{Filter, for_each_letter},
    stream::DeadLetterStream,
};
use crate::{
    arguments::SystemArguments,
    dead_letter::DeadLetter,
    output::{self, Format, Output},
};

/// List dead letters, newest first.
///
/// Exits with 1 when a listed letter is open, as a signal to scripts.
#[derive(Debug, Args)]
// `--reason` is short for `--reason-contains`.
#[command(infer_long_args = true)]
pub(crate) struct Ls {
    #[command(flatten)]
    filter: Filter,
    /// List closed letters instead: how they were closed, when, by whom and why.
    #[arg(long)]
    closed: bool,
    /// Maximum number of listed letters.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    system: SystemArguments,
    #[command(flatten)]
    format: Format,
}

impl Ls {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let mut newest = VecDeque::new();
        let mut count = 0_usize;
        let system = self.system.resolve().await?;
        if let Some(stream) = DeadLetterStream::connect(system.nats).await? {
            let subjects = if self.closed { closed_subjects("*") } else { open_subjects("*") };
            for_each_letter(&stream, &subjects, &self.filter, |letter| {
                count += 1;
                newest.push_front(letter);
                newest.truncate(self.limit);
            })
            .await?;
        }
        match self.format.output {
            Output::Json => output::json(&newest.iter().map(DeadLetter::view).collect::<Vec<_>>())?,
            Output::Table if count == 0 => output::line("no dead letters")?,
            Output::Table => {
                self.print(&newest)?;
                output::line(&format!("\n{} of {count}", newest.len()))?;
            }
        }
        Ok(ExitCode::from(u8::from(count > 0 && !self.closed)))
    }

    fn print(&self, letters: &VecDeque<DeadLetter>) -> Result<()> {
        let mut headings = vec!["ID", "KEPT AT", "CONSUMER", "RECORD", "REASON"];
        headings.extend(self.closed.then_some("CLOSED"));
        output::table(&headings, letters.iter().map(DeadLetter::row))
    }
}
