//! Passbook's command-line tool.
//!
//! Operations: provisions and migrates databases, creates streams and Secrets, verifies the
//! invariants, exports the heads of the ledger's chains, finds faults, handles dead letters, repairs a restored ledger, asks for reports and
//! checks their files. With the feature `dev`: starts and breaks the development stack, and
//! generates load.
//!
//! Data goes to stdout, logs and progress to stderr.

mod age;
mod arguments;
mod broker;
mod cli;
mod completion;
mod database;
#[cfg(feature = "dev")]
mod dev;
mod dlq;
mod doctor;
#[cfg(test)]
mod documents;
mod error_chain;
mod heads;
mod logs;
mod migrate;
mod migrations;
mod new_file;
mod output;
mod provision;
mod pushgateway;
mod repair;
mod reports;
mod retry;
mod secrets;
mod statement;
mod streams;
mod user;
mod verify;
mod wait;

use std::process::ExitCode;

use anyhow::Result;
use passbook::{dead_letter, file_signature, heads_file};

use crate::cli::Cli;

/// Exit code of a command that could not do its work.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli: Cli = runtime::setting::parse();
    logs::init().and_then(|()| run(cli)).unwrap_or_else(|error| {
        tracing::error!("{}", error_chain::describe(&error));
        ExitCode::from(FAILED)
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    // Everything runs on the main thread. The kernel kills the development stack's children when
    // the thread that started them ends, so this thread must live as long as the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            code = cli.run() => code,
            error = database::silent_server() => Err(error),
        }
    })
}
