//! `passbook dev up`

use std::{
    env, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use devstack::{Brokers, Options, ProxyPort, Replicas, Stack, StackFile, service};
use tokio_util::sync::CancellationToken;

use super::{demo, detach, signals::Signals, summary};
use crate::{
    cli::Dir,
    output::{Format, Output},
};

const DEFAULT_PORT: u16 = 8080;

/// Start everything and keep it running until Ctrl-C.
///
/// Finds PostgreSQL and nats-server or installs them, starts them on free
/// ports with their data in DIR, then the services, and one HTTP address
/// before them. Data stays for the next run. The variables
/// PASSBOOK_WORKER_BATCH, PASSBOOK_WORKERS, PASSBOOK_THREADS and
/// PASSBOOK_DATABASE_CONNECTIONS are passed on to the services.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(super) stack: StackArguments,
    /// Port of the API on 127.0.0.1; 0 is any free one. By default 8080, or
    /// any free one when that is taken.
    #[arg(long)]
    port: Option<u16>,
    /// Go on in the background once everything is ready; `passbook dev down
    /// --dir DIR` ends it.
    #[arg(long)]
    detach: bool,
    /// Move some money once everything is ready.
    #[arg(long)]
    demo: bool,
    /// This process is the one in the background.
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
    #[command(flatten)]
    format: Format,
}

/// What a stack is made of.
#[derive(Debug, Clone, Args)]
pub(crate) struct StackArguments {
    #[command(flatten)]
    pub(super) dir: Dir,
    /// Replicas of the account-service. Without any, there is no API.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    account_replicas: u16,
    /// Replicas of the transaction-service.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    transaction_replicas: u16,
    /// Servers of the broker: 1, or 3 for a cluster that keeps each stream three times and has
    /// every message on the disk before it acknowledges it.
    #[arg(long, value_name = "NUMBER", value_enum, default_value_t = NatsNodes::One)]
    nats_nodes: NatsNodes,
    /// Put every connection of a service through a link that can be broken, and take orders for
    /// faults: see `passbook dev fault`.
    #[arg(long)]
    faults: bool,
    /// Run the services' release build, which `cargo build --workspace
    /// --release` makes, instead of the programs beside this one.
    #[arg(long)]
    release: bool,
    /// Run the services' build with crash points, which `make crash-points`
    /// makes; they are armed in DIR.
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "release")]
    crash_points: Option<PathBuf>,
    /// Folder to install servers into that this machine lacks.
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
    pub(super) fn options(self, port: ProxyPort) -> Result<Options> {
        let passbook = env::current_exe().context("finding this program")?;
        let beside = passbook.parent().context("a program lies in a folder")?;
        let programs = match &self.crash_points {
            Some(_) => beside.join("crash-points"),
            None if self.release => beside.with_file_name("release"),
            None => beside.to_owned(),
        };
        Ok(Options {
            dir: self.dir.dir,
            tools: std::path::absolute(self.tools_dir)?,
            replicas: Replicas::from([
                (&service::ACCOUNT, self.account_replicas),
                (&service::TRANSACTION, self.transaction_replicas),
            ]),
            brokers: match self.nats_nodes {
                NatsNodes::One => Brokers::Single,
                NatsNodes::Three => Brokers::Cluster,
            },
            faults: self.faults,
            port,
            passbook,
            programs,
            crash_points: self.crash_points,
        })
    }
}

impl Up {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let output = self.format.output;
        if self.detach {
            let mut signals = Signals::catch()?;
            let dir = self.stack.dir.path();
            let file = detach::start(dir, &mut signals).await?;
            return ready(&file, Some(dir), output, self.demo).await;
        }
        if self.detached {
            // Out of the caller's session: its terminal's signals end here.
            nix::unistd::setsid().context("starting a session")?;
        }
        let port = self.port.map_or(ProxyPort::Preferred(DEFAULT_PORT), ProxyPort::Exact);
        let options = self.stack.options(port)?;
        let show = !self.detached;
        with_stack(options, async |file| {
            if show {
                ready(file, None, output, self.demo).await?;
            }
            Ok(After::Stay)
        })
        .await
    }
}

/// Shows what is ready. A stack in the background has to be stopped by its
/// folder, `detached_dir`.
async fn ready(
    file: &StackFile,
    detached_dir: Option<&Path>,
    output: Output,
    demo: bool,
) -> Result<ExitCode> {
    summary::print(file, detached_dir, output)?;
    if !demo {
        return Ok(ExitCode::SUCCESS);
    }
    // Nothing but the one document goes to a program.
    let outcome = match output {
        Output::Table => demo::move_money(file, &mut io::stdout()).await?,
        Output::Json => demo::move_money(file, &mut io::stderr()).await?,
    };
    Ok(outcome.code())
}

/// What becomes of a stack once it was used.
pub(super) enum After {
    /// It stays until a signal comes.
    Stay,
    /// It is stopped; this is the exit code.
    Stop(ExitCode),
}

/// Starts a stack, uses it, and stops it whatever happened.
pub(super) async fn with_stack(
    options: Options,
    then: impl AsyncFnOnce(&StackFile) -> Result<After>,
) -> Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let mut stack = Stack::new(options).await?;
    let outcome = tokio::select! {
        outcome = run(&mut stack, then) => outcome,
        () = signals.stop() => Ok(ExitCode::SUCCESS),
    };
    let at_once = CancellationToken::new();
    let stopping = stack.stop(&at_once);
    tokio::pin!(stopping);
    tokio::select! {
        () = &mut stopping => {}
        () = signals.kill() => {
            at_once.cancel();
            stopping.await;
        }
    }
    outcome
}

async fn run(
    stack: &mut Stack,
    then: impl AsyncFnOnce(&StackFile) -> Result<After>,
) -> Result<ExitCode> {
    let file = stack.start().await?.clone();
    let used = async {
        match then(&file).await? {
            After::Stop(code) => Ok(code),
            After::Stay => std::future::pending().await,
        }
    };
    tokio::select! {
        code = used => code,
        () = stack.maintain_stack_file() => Ok(ExitCode::SUCCESS),
    }
}
