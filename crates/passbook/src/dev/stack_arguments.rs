//! Arguments for starting a stack.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use devstack::{Brokers, Loopback, Options, ProxyPort, Replicas, service};

use crate::arguments::StackDir;

/// The components of a stack.
#[derive(Debug, Clone, Args)]
pub(crate) struct StackArguments {
    #[command(flatten)]
    dir: StackDir,
    /// Replicas of the account-service. With 0, there is no API.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    account_replicas: u16,
    /// Replicas of the transaction-service.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    transaction_replicas: u16,
    /// Replicas of the report-service. At most one report runs at a time, whatever their number.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    report_replicas: u16,
    /// Replicas of the webhook-service.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    webhook_replicas: u16,
    /// Servers of the broker: 1, or 3 for a cluster. The cluster keeps three replicas of each
    /// stream, and writes every message to disk before acknowledging it.
    #[arg(long, value_name = "NUMBER", value_enum, default_value_t = NatsNodes::One)]
    nats_nodes: NatsNodes,
    /// Route every connection of a service through a link, and accept commands to break links and
    /// processes: see `passbook dev fault`.
    #[arg(long)]
    faults: bool,
    /// Listen on ::1 only, not on 127.0.0.1.
    #[arg(long)]
    ipv6: bool,
    /// Run the services' release build instead of the programs beside this one. Build it with
    /// `cargo build --workspace --release`.
    #[arg(long)]
    release: bool,
    /// Crash the services at the points that files in DIR arm.
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "release")]
    crash_points: Option<PathBuf>,
    /// Folder for installing the servers missing on this machine.
    #[arg(long, value_name = "DIR", env = "PASSBOOK_TOOLS_DIR", default_value = ".tools")]
    tools_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NatsNodes {
    #[value(name = "1")]
    One,
    #[value(name = "3")]
    Three,
}

impl StackArguments {
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The options for starting the stack.
    ///
    /// # Errors
    /// When the folder of this program can't be found.
    pub(super) fn options(self, port: ProxyPort) -> Result<Options> {
        let passbook = env::current_exe().context("finding the path of this program")?;
        let folder = passbook.parent().context("the path of this program has no folder")?;
        let programs =
            if self.release { folder.with_file_name("release") } else { folder.to_owned() };
        Ok(Options {
            dir: self.dir.path().to_owned(),
            tools: std::path::absolute(self.tools_dir)?,
            replicas: Replicas::from([
                (&service::ACCOUNT, self.account_replicas),
                (&service::TRANSACTION, self.transaction_replicas),
                (&service::REPORT, self.report_replicas),
                (&service::WEBHOOKS, self.webhook_replicas),
            ]),
            brokers: match self.nats_nodes {
                NatsNodes::One => Brokers::Single,
                NatsNodes::Three => Brokers::Cluster,
            },
            faults: self.faults,
            host: if self.ipv6 { Loopback::V6 } else { Loopback::V4 },
            port,
            passbook,
            programs,
            crash_points: self.crash_points,
        })
    }
}
