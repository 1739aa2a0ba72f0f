//! `passbook completion`

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::Shell;

/// Print a shell's completion script.
///
/// For bash: `source <(passbook completion bash)`.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Name of the shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints the script for this command line.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(crate) fn run(self, mut cli: Command) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli, "passbook", &mut script);
        std::io::stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
