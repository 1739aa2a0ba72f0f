//! `passbook reports`: asks for reports through the API, follows them and downloads their files.

mod api;
mod cancel;
mod create;
mod download;
mod error;
mod follow;
mod get;
mod ls;
mod names;
mod report;
mod retry;
mod signing_key;
mod wait;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Ask for reports, follow them and download their files.
///
/// The commands use the API. Pass its address in PASSBOOK_API_URL and a bearer token in
/// PASSBOOK_TOKEN. Exit codes of commands that wait: 0 for a report that SUCCEEDED, 1 for one that
/// is FAILED or CANCELLED.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Create(create::Command),
    Ls(ls::Ls),
    Get(get::Get),
    Wait(wait::Wait),
    Download(download::Download),
    Cancel(cancel::Cancel),
    Retry(retry::Retry),
    SigningKey(signing_key::SigningKey),
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Ls(ls) => ls.run().await,
            Self::Get(get) => get.run().await,
            Self::Wait(wait) => wait.run().await,
            Self::Download(download) => download.run().await,
            Self::Cancel(cancel) => cancel.run().await,
            Self::Retry(retry) => retry.run().await,
            Self::SigningKey(signing_key) => signing_key.run().await,
        }
    }
}
