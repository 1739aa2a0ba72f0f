//! `passbook dev fault`

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use devstack::{Fault, FaultClient};

use crate::{
    arguments::StackDir,
    output::{self, Format, Output},
};

/// Inject faults into the stack in DIR. The stack must have been started with `--faults`.
///
/// ON is the name of a process, such as `nats` or `account-service-0`, or of a link between two,
/// such as `transaction-service-0/postgres`. In a name, `*` stands for any text. `passbook dev
/// fault ls` lists the names.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List every process and link with its state.
    Ls(Ls),
    /// Process: kill it (SIGKILL). The stack starts it again after a second.
    Kill(On),
    /// Process: stop it (SIGTERM). The stack starts it again a second after its exit.
    Terminate(On),
    /// Process: freeze it (SIGSTOP). Its connections stay open.
    Freeze(On),
    /// Process: continue it after `freeze` (SIGCONT).
    Thaw(On),
    /// Process: kill it and do not start it again until `release`.
    Hold(On),
    /// Process: start it again after `hold`.
    Release(On),
    /// Broker: kill it, remove its stored data, and start it again.
    Wipe(On),
    /// Link: reset its connections. New connections are accepted.
    Cut(On),
    /// Link: reset its connections and refuse new ones, until `pass`.
    Refuse(On),
    /// Link: keep its connections open, but forward nothing until `pass`.
    Silence(On),
    /// Link: keep its present connections open and silent for ever. New ones pass.
    Vanish(On),
    /// Link: reset its connections, and lead new ones to another port, until `pass`: a failover.
    Redirect {
        /// Port of another server on this machine.
        #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        #[command(flatten)]
        on: On,
    },
    /// Link: forward data from the client, but none from the server until `pass`.
    SilenceResponses(On),
    /// Link: forward data from the server, but none from the client until `pass`.
    SilenceRequests(On),
    /// Link: delay all data until `pass`.
    Delay {
        /// Delay in each direction.
        #[arg(value_name = "MILLISECONDS")]
        milliseconds: u32,
        #[command(flatten)]
        on: On,
    },
    /// Link: limit the throughput until `pass`.
    Throttle {
        /// Limit in each direction.
        #[arg(value_name = "BYTES_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
        bytes_per_second: u32,
        #[command(flatten)]
        on: On,
    },
    /// Link: forward everything again.
    Pass(On),
}

/// The targets of a fault.
#[derive(Debug, Args)]
pub(crate) struct On {
    /// Names of processes or links.
    #[arg(required = true)]
    on: Vec<String>,
    #[command(flatten)]
    dir: StackDir,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    dir: StackDir,
    #[command(flatten)]
    format: Format,
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let (on, fault) = match self {
            Self::Ls(ls) => return ls.run().await,
            Self::Kill(on) => (on, Fault::Kill),
            Self::Terminate(on) => (on, Fault::Terminate),
            Self::Freeze(on) => (on, Fault::Freeze),
            Self::Thaw(on) => (on, Fault::Thaw),
            Self::Hold(on) => (on, Fault::Hold),
            Self::Release(on) => (on, Fault::Release),
            Self::Wipe(on) => (on, Fault::Wipe),
            Self::Cut(on) => (on, Fault::Cut),
            Self::Refuse(on) => (on, Fault::Refuse),
            Self::Silence(on) => (on, Fault::Silence),
            Self::Vanish(on) => (on, Fault::Vanish),
            Self::Redirect { port, on } => (on, Fault::Redirect(port)),
            Self::SilenceResponses(on) => (on, Fault::SilenceResponses),
            Self::SilenceRequests(on) => (on, Fault::SilenceRequests),
            Self::Delay { milliseconds, on } => (on, Fault::Delay(milliseconds)),
            Self::Throttle { bytes_per_second, on } => (on, Fault::Throttle(bytes_per_second)),
            Self::Pass(on) => (on, Fault::Pass),
        };
        let client = FaultClient::of(&on.dir.running_stack()?)?;
        for name in &on.on {
            for target in client.inject(name, fault).await? {
                output::line(&target)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Ls {
    async fn run(self) -> Result<ExitCode> {
        let targets = FaultClient::of(&self.dir.running_stack()?)?.targets().await?;
        match self.format.output {
            Output::Json => output::json(&targets)?,
            Output::Table => output::table(
                &["NAME", "KIND", "STATE"],
                targets.into_iter().map(|target| vec![target.name, target.kind, target.state]),
            )?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
