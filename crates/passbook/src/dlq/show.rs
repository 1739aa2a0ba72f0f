//! `passbook dlq show`

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::{
    DeadLetters,
    letter::{Letter, rfc3339},
    select::{Found, find},
};
use crate::{
    cli::System,
    output::{self, Format, Output},
};

/// Show one dead letter with its body, and what became of it.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its id, as `passbook dlq ls` lists it.
    id: u64,
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    format: Format,
}

impl Show {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let letter = match DeadLetters::at(self.system.find()?.nats).await? {
            Some(letters) => find(&letters, self.id).await?,
            None => Found::Nothing(self.id),
        };
        let (Found::Open(letter) | Found::Closed(letter)) = letter else {
            bail!("there is no dead letter {}: `passbook dlq ls` lists them", self.id);
        };
        match self.format.output {
            Output::Json => output::json(&letter.view())?,
            Output::Table => print(&letter)?,
        }
        Ok(ExitCode::SUCCESS)
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
