//! `passbook dlq show`

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use tracing::error;

use super::{
    DeadLetters,
    letter::{Letter, rfc3339},
    select::{Found, Selection},
};
use crate::{
    cli::System,
    output::{self, Format, Output},
};

/// Show dead letters with their bodies, and what became of them.
#[derive(Debug, Args)]
// `--reason` is short for `--reason-contains`.
#[command(infer_long_args = true)]
pub(crate) struct Show {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    format: Format,
}

impl Show {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let letters = DeadLetters::at(self.system.find().await?.nats).await?;
        let (mut shown, mut missing) = (0_usize, false);
        if let Some(letters) = &letters {
            let mut selected = self.selection.of(letters).await?;
            while let Some(found) = selected.next().await? {
                for found in found {
                    match found {
                        Found::Open(letter) | Found::Closed(letter) => {
                            self.print(&letter, shown)?;
                            shown += 1;
                        }
                        Found::Nothing(id) => {
                            missing = true;
                            error!("there is no dead letter {id}");
                        }
                    }
                }
            }
        }
        match self.format.output {
            Output::Json if self.selection.one().is_none() => {
                output::line(if shown == 0 { "[]" } else { "]" })?;
            }
            _ => {}
        }
        ensure!(shown > 0, "no dead letter is meant by that: `passbook dlq ls` lists them");
        Ok(ExitCode::from(u8::from(missing)))
    }

    /// One by one, so that they are not all in memory.
    fn print(&self, letter: &Letter, before: usize) -> Result<()> {
        match self.format.output {
            Output::Json => {
                if self.selection.one().is_none() {
                    output::line(if before == 0 { "[" } else { "," })?;
                }
                output::json(&letter.view())
            }
            Output::Table => {
                if before > 0 {
                    output::line("\n")?;
                }
                print(letter)
            }
        }
    }
}

fn print(letter: &Letter) -> Result<()> {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let rows = [
        ("id", letter.id.to_string()),
        ("kept at", rfc3339(letter.kept_at)),
        ("consumer", letter.consumer.clone()),
        ("reason", letter.reason().to_owned()),
        ("published on", text(letter.subject())),
        ("message id", text(letter.message_id())),
        ("record", letter.record.map(|it| it.to_string()).unwrap_or_default()),
        ("cut from", letter.truncated_from().map(|it| format!("{it} bytes")).unwrap_or_default()),
        ("closed", letter.closed.as_ref().map(|it| it.told()).unwrap_or_default()),
    ];
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        output::line(&format!("{name:>12}  {}", output::safe(value)))?;
    }
    output::line("")?;
    // Its lines stay lines; all else that a terminal would obey is shown instead.
    for line in letter.body().split('\n') {
        output::line(&output::safe(line))?;
    }
    Ok(())
}
