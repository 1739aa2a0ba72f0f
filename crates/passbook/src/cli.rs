//! The subcommands and what they have in common.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use devstack::StackFile;

use crate::{
    bound_exec::BoundExec, completion::Completion, dev, migrate::Migrate, output::Output, verify,
};

/// Deposits and withdrawals: the tool for developing and operating Passbook.
///
/// Data goes to stdout, logs to stderr (PASSBOOK_LOG sets their level, such
/// as `debug`). Exits with 0 when all is well, 1 when something was found, 2
/// when the work could not be done.
#[derive(Debug, Parser)]
#[command(name = "passbook", version, propagate_version = true)]
pub(crate) struct Cli {
    /// How to print data.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole system on this machine.
    #[command(subcommand)]
    Dev(dev::Command),
    Migrate(Migrate),
    Verify(Verify),
    Completion(Completion),
    #[command(hide = true)]
    BoundExec(BoundExec),
}

/// The folder of a development stack.
#[derive(Debug, Clone, Args)]
pub(crate) struct Dir {
    /// Folder of the stack: its data, secrets and logs.
    #[arg(long, value_name = "DIR", default_value = ".passbook")]
    pub(crate) dir: PathBuf,
}

impl Dir {
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

/// Check that the books balance: every invariant of the ledger, in both
/// databases.
///
/// Exits with 1 when one is broken. Without database URLs, those of the
/// development stack are checked.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    dir: Dir,
    /// URL of the account-service's database.
    #[arg(
        long,
        value_name = "URL",
        env = "PASSBOOK_ACCOUNT_DATABASE_URL",
        hide_env_values = true,
        requires = "transaction_database_url"
    )]
    account_database_url: Option<String>,
    /// URL of the transaction-service's database.
    #[arg(
        long,
        value_name = "URL",
        env = "PASSBOOK_TRANSACTION_DATABASE_URL",
        hide_env_values = true,
        requires = "account_database_url"
    )]
    transaction_database_url: Option<String>,
}

impl Verify {
    pub(crate) async fn run(self, output: Output) -> Result<std::process::ExitCode> {
        let (account, transaction) =
            match self.account_database_url.zip(self.transaction_database_url) {
                Some(urls) => urls,
                None => {
                    let stack = StackFile::read(self.dir.path())
                        .context("no database URLs are given, so the stack's are needed")?;
                    (stack.databases.account, stack.databases.transaction)
                }
            };
        verify::run(&account, &transaction, output).await
    }
}
