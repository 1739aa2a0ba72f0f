//! `passbook heads`: exports the heads of the ledger's chains, for a place that nobody with access
//! to the database can write to. `passbook verify --heads` compares them with the chains later.
//!
//! The chains alone can't show that somebody has computed a whole chain again, or has cut off its
//! end and changed the account to match. An exported head shows both.

mod export;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use crate::heads_file::{HeadsArguments, HeadsFile};

/// Export the heads of the ledger's chains, signed.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Export(export::Export),
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Export(export) => export.run().await,
        }
    }
}
