//! `passbook statement`: works on files of reports, without the system.

mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Check files of reports, offline.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Verify(verify::Verify),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Verify(verify) => verify.run(),
        }
    }
}
