//! The command-line tool: starts and stops the development stack, migrates
//! databases, checks the books, deals with dead letters, finds what is wrong, makes load.
//!
//! Data goes to stdout, logs and progress to stderr. Exits with 0 when all is
//! well, 1 when it found something, 2 when it could not do its work.

mod bound_exec;
mod broker;
mod cli;
mod completion;
mod database;
mod dev;
mod dlq;
mod doctor;
mod load;
mod logs;
mod migrate;
mod output;
mod patience;
mod provision;
mod push;
mod repair;
mod secrets;
mod streams;
mod verify;
mod wait;

use std::process::ExitCode;

use anyhow::{Error, Result};
use clap::Parser;

use crate::cli::{Cli, Command};

const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logs::init().and_then(|()| run(cli)).unwrap_or_else(|error| {
        tracing::error!("{}", causes(&error));
        ExitCode::from(FAILED)
    })
}

/// An error and its causes, without those that the one before told already:
/// sqlx's do.
fn causes(error: &Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        if told.is_empty() {
            cause
        } else if told.ends_with(&cause) {
            told
        } else {
            format!("{told}: {cause}")
        }
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    // One thread, the main one: children that die with their parent have to
    // be started from a thread that lives as long as the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Command::Dev(command) => runtime.block_on(dev::run(command)),
        Command::Provision(provision) => runtime.block_on(provision.run()),
        Command::Migrate(migrate) => runtime.block_on(migrate.run()),
        Command::Streams(streams) => runtime.block_on(streams.run()),
        Command::Wait(wait) => runtime.block_on(wait.run()),
        Command::Secrets(secrets) => runtime.block_on(secrets.run()),
        Command::Verify(verify) => runtime.block_on(verify.run()),
        Command::Doctor(doctor) => runtime.block_on(doctor.run()),
        Command::Repair(repair) => runtime.block_on(repair.run()),
        Command::Load(load) => runtime.block_on(load.run()),
        Command::Dlq(command) => runtime.block_on(command.run()),
        Command::Completion(completion) => completion.run(),
        Command::BoundExec(bound) => bound.run(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let refused = sqlx::Error::Io(io::Error::other("connection refused"));
        let error = anyhow!(refused).context("the account database");
        let told = "the account database: error communicating with database: connection refused";
        assert_eq!(causes(&error), told);
        assert_eq!(causes(&anyhow!("inner").context("outer")), "outer: inner");
    }
}
