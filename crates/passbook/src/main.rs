//! The command-line tool: starts and stops the development stack, migrates
//! databases, checks the books.
//!
//! Data goes to stdout, logs and progress to stderr. Exits with 0 when all is
//! well, 1 when it found something, 2 when it could not do its work.

mod bound_exec;
mod cli;
mod completion;
mod dev;
mod logs;
mod migrate;
mod output;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Command};

const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logs::init();
    run(cli).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::from(FAILED)
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    // One thread, the main one: children that die with their parent have to
    // be started from a thread that lives as long as the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Command::Dev(command) => runtime.block_on(dev::run(command, cli.output)),
        Command::Migrate(migrate) => runtime.block_on(migrate.run(cli.output)),
        Command::Verify(verify) => runtime.block_on(verify.run(cli.output)),
        Command::Completion(completion) => completion.run(),
        Command::BoundExec(bound) => bound.run(),
    }
}
