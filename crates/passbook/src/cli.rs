//! The subcommands and what they have in common.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, ensure};
use clap::{Args, Parser, Subcommand};
use devstack::StackFile;
use futures::future::{join, join_all};
use nix::unistd::{Uid, User};

use crate::{
    bound_exec::BoundExec,
    broker::{Address, Broker, Place},
    completion::Completion,
    database,
    database::Urls,
    dev, dlq,
    doctor::Doctor,
    load::Load,
    migrate::Migrate,
    patience::Patience,
    provision::Provision,
    repair::Repair,
    secrets,
    streams::Streams,
    verify::Verify,
    wait::Wait,
};

/// Deposits and withdrawals: the tool for developing and operating Passbook.
///
/// Data goes to stdout, logs to stderr (PASSBOOK_LOG sets their level, such
/// as `debug`). Exits with 0 when all is well, 1 when something was found, 2
/// when the work could not be done.
#[derive(Debug, Parser)]
#[command(name = "passbook", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole system on this machine.
    #[command(subcommand)]
    Dev(dev::Command),
    Provision(Provision),
    Migrate(Migrate),
    Streams(Streams),
    Wait(Wait),
    #[command(subcommand)]
    Secrets(secrets::Command),
    Verify(Verify),
    Doctor(Doctor),
    #[command(subcommand)]
    Dlq(dlq::Command),
    Repair(Repair),
    Load(Load),
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

    /// The stack that is ready there and its supervisor, or else what there
    /// is instead. The file alone proves nothing: a killed one leaves it.
    pub(crate) fn stack(&self) -> Result<Result<(u32, StackFile), String>> {
        let dir = self.dir.display();
        let Some(supervisor) = devstack::supervisor_pid(&self.dir)? else {
            return Ok(Err(format!(
                "no stack runs in {dir}: `passbook dev up --dir {dir}` starts one"
            )));
        };
        let file = StackFile::find(&self.dir)?.filter(|file| file.supervisor == supervisor);
        let instead = || format!("the stack in {dir} is starting or stopping (pid {supervisor})");
        Ok(file.map(|file| (supervisor, file)).ok_or_else(instead))
    }
}

/// The system to look at: the development stack, or one whose URLs are given.
#[derive(Debug, Clone, Args)]
pub(crate) struct System {
    #[command(flatten)]
    dir: Dir,
    /// URL of the account-service's database. Without any URL, those of the development stack.
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
    #[command(flatten)]
    nats: Place,
    #[command(flatten)]
    patience: Patience,
}

/// Databases that may be given one without the other.
#[derive(Debug, Args)]
pub(crate) struct Databases {
    /// URL of the account-service's database.
    #[arg(long, value_name = "URL", env = "PASSBOOK_ACCOUNT_DATABASE_URL", hide_env_values = true)]
    pub(crate) account_database_url: Option<String>,
    /// URL of the transaction-service's database.
    #[arg(
        long,
        value_name = "URL",
        env = "PASSBOOK_TRANSACTION_DATABASE_URL",
        hide_env_values = true
    )]
    pub(crate) transaction_database_url: Option<String>,
}

/// Where a system is.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) databases: Option<Urls>,
    pub(crate) nats: Option<Address>,
    /// The development stack, if it is that.
    pub(crate) stack: Option<StackFile>,
}

impl System {
    /// What is given, or else the development stack, but no mixture of both:
    /// two systems do not agree. Returns once its servers let somebody in, or
    /// the time to wait for that is over.
    ///
    /// # Errors
    /// When nothing is given and no stack runs.
    pub(crate) async fn find(&self) -> Result<Addresses> {
        let addresses = self.addresses()?;
        if self.patience.is_some() {
            let Addresses { databases, nats, .. } = &addresses;
            let databases: Vec<_> =
                databases.iter().flat_map(|it| [&it.account, &it.transaction]).collect();
            databases.iter().try_for_each(|url| database::options(url).map(drop))?;
            nats.iter().try_for_each(|address| address.servers().map(drop))?;
            let databases = databases.into_iter().map(async |url| {
                let connect = || database::connect(url);
                self.patience.until("PostgreSQL", connect).await.map(drop)
            });
            let nats = nats.iter().map(async |address| {
                self.patience.until("NATS", || Broker::connect(address)).await.map(drop)
            });
            // Whoever asked needs them, and says what is away.
            join(join_all(databases), join_all(nats)).await;
        }
        Ok(addresses)
    }

    fn addresses(&self) -> Result<Addresses> {
        let given = self.account_database_url.clone().zip(self.transaction_database_url.clone());
        let databases = given.map(|(account, transaction)| Urls { account, transaction });
        let nats = self.nats.address();
        if databases.is_some() || nats.is_some() {
            return Ok(Addresses { databases, nats, stack: None });
        }
        let file = stack_of(&self.dir).context("no URLs are given")?;
        let (account, transaction) =
            (file.databases.account.clone(), file.databases.transaction.clone());
        Ok(Addresses {
            databases: Some(Urls { account, transaction }),
            nats: Some(Address::plain(file.nats.clone())),
            stack: Some(file),
        })
    }
}

/// A text that says something.
///
/// # Errors
/// When it is blank.
pub(crate) fn said(text: &str) -> Result<String, String> {
    let said = text.trim();
    if said.is_empty() { Err("must not be blank".to_owned()) } else { Ok(said.to_owned()) }
}

/// The name of the user who runs this.
pub(crate) fn user() -> String {
    let id = Uid::current();
    let user = User::from_uid(id).ok().flatten();
    user.map_or_else(|| format!("user {id}"), |user| user.name)
}

/// The stack that runs there.
///
/// # Errors
/// When none does; with how to start it.
pub(crate) fn stack_of(dir: &Dir) -> Result<StackFile> {
    let (supervisor, file) = dir.stack()?.map_err(Error::msg)?;
    let dir = dir.path().display();
    ensure!(
        devstack::alive(supervisor),
        "the stack in {dir} was killed: `passbook dev up --dir {dir}` starts it again"
    );
    Ok(file)
}
