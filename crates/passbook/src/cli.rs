//! The subcommands.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

#[cfg(feature = "dev")]
use crate::dev;
use crate::{
    completion::Completion, dlq, doctor::Doctor, heads, migrate::Migrate, provision::Provision,
    repair::Repair, reports, secrets, statement, streams::Streams, verify::Verify, wait::Wait,
};

/// The tool for operating Passbook, a service for deposits and withdrawals.
///
/// Data goes to stdout, logs go to stderr. PASSBOOK_LOG sets the log level, such as `debug`. Exit
/// codes: 0 for success, 1 for findings, 2 for a command that could not do its work.
#[derive(Debug, Parser)]
#[command(name = "passbook", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole system on this machine.
    #[cfg(feature = "dev")]
    #[command(subcommand)]
    Dev(dev::Command),
    Provision(Provision),
    Migrate(Migrate),
    Streams(Streams),
    Wait(Wait),
    #[command(subcommand)]
    Secrets(secrets::Command),
    Verify(Verify),
    #[command(subcommand)]
    Heads(heads::Command),
    Doctor(Box<Doctor>),
    #[command(subcommand)]
    Dlq(dlq::Command),
    Repair(Repair),
    #[command(subcommand)]
    Reports(reports::Command),
    #[command(subcommand)]
    Statement(statement::Command),
    #[cfg(feature = "dev")]
    Load(dev::Load),
    Completion(Completion),
    #[cfg(feature = "dev")]
    #[command(hide = true)]
    BoundExec(dev::ExecBound),
}

impl Cli {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// When the subcommand could not do its work.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command {
            #[cfg(feature = "dev")]
            Command::Dev(command) => command.run().await,
            Command::Provision(provision) => provision.run().await,
            Command::Migrate(migrate) => migrate.run().await,
            Command::Streams(streams) => streams.run().await,
            Command::Wait(wait) => wait.run().await,
            Command::Secrets(command) => command.run().await,
            Command::Verify(verify) => verify.run().await,
            Command::Heads(command) => command.run().await,
            Command::Doctor(doctor) => doctor.run().await,
            Command::Dlq(command) => command.run().await,
            Command::Repair(repair) => repair.run().await,
            Command::Reports(command) => command.run().await,
            Command::Statement(command) => command.run(),
            #[cfg(feature = "dev")]
            Command::Load(load) => load.run().await,
            Command::Completion(completion) => completion.run(Self::command()),
            #[cfg(feature = "dev")]
            Command::BoundExec(exec_bound) => exec_bound.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_the_feature_dev_has_commands_for_development() {
        let cli = Cli::command();
        for name in ["dev", "load", "bound-exec"] {
            let exists = cli.find_subcommand(name).is_some();
            assert_eq!(exists, cfg!(feature = "dev"), "{name}");
        }
    }

    #[test]
    fn only_the_feature_dev_looks_for_a_development_stack() {
        let mut cli = Cli::command();
        cli.build();
        for name in ["verify", "doctor", "repair"] {
            let command = cli.find_subcommand(name).unwrap();
            let has_dir = command.get_arguments().any(|argument| argument.get_id() == "dir");
            assert_eq!(has_dir, cfg!(feature = "dev"), "{name}");
        }
    }
}
