//! `passbook dlq`: lists, shows, replays and discards dead letters, the messages no consumer could
//! process.
//!
//! A dead letter is open until an operator closes it: replays or discards it. Closing has three
//! steps: write a claim on a subject of this letter alone ([`claim`]), act, remove the letter. An
//! interrupted command can be repeated, because each step can.

mod claim;
mod discard;
mod listing;
mod lookup;
mod ls;
mod process;
mod replay;
mod republish;
mod select;
mod show;
mod stream;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Handle dead letters: messages that could not be processed.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ls(ls::Ls),
    Show(show::Show),
    #[command(name = "redrive")]
    Replay(replay::Replay),
    Discard(discard::Discard),
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Ls(ls) => ls.run().await,
            Self::Show(show) => show.run().await,
            Self::Replay(replay) => replay.run().await,
            Self::Discard(discard) => discard.run().await,
        }
    }
}
