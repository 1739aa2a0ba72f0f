//! `passbook dlq show`

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use tracing::error;

use super::{
    select::{Selected, Selection},
    stream::DeadLetterStream,
};
use crate::{
    arguments::SystemArguments,
    dead_letter::DeadLetter,
    output::{self, Format, Output},
};

/// Show dead letters with their bodies and, if closed, how they were closed.
#[derive(Debug, Args)]
// `--reason` is short for `--reason-contains`.
#[command(infer_long_args = true)]
pub(crate) struct Show {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    system: SystemArguments,
    #[command(flatten)]
    format: Format,
}

impl Show {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let system = self.system.resolve().await?;
        let (mut shown, mut is_missing) = (0_usize, false);
        if let Some(stream) = &DeadLetterStream::connect(system.nats).await? {
            let mut batches = self.selection.open(stream).await?;
            while let Some(batch) = batches.next_batch().await? {
                for selected in batch {
                    match selected {
                        Selected::Open(letter) | Selected::Closed(letter) => {
                            self.print(&letter, shown)?;
                            shown += 1;
                        }
                        Selected::Missing(id) => {
                            is_missing = true;
                            error!("there is no dead letter {id}");
                        }
                    }
                }
            }
        }
        match self.format.output {
            Output::Json if self.selection.single_id().is_none() => {
                output::line(if shown == 0 { "[]" } else { "]" })?;
            }
            _ => {}
        }
        ensure!(shown > 0, "no dead letter matches: list them with `passbook dlq ls`");
        Ok(ExitCode::from(u8::from(is_missing)))
    }

    /// Prints one letter at a time, so that only a batch is in memory. `index` counts the letters
    /// before this one.
    fn print(&self, letter: &DeadLetter, index: usize) -> Result<()> {
        match self.format.output {
            Output::Json => {
                if self.selection.single_id().is_none() {
                    output::line(if index == 0 { "[" } else { "," })?;
                }
                output::json(&letter.view())
            }
            Output::Table => {
                if index > 0 {
                    output::line("\n")?;
                }
                output::text(&letter.page())
            }
        }
    }
}
