//! `passbook dev fault`

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use devstack::{Fault, FaultClient};

use crate::{
    cli::{Dir, stack_of},
    output::{self, Format, Output},
};

/// Break the stack that runs in DIR, if it was started with `--faults`.
///
/// ON is the name of a process (`nats`, `account-service-0`) or of a link
/// between two (`transaction-service-0/postgres`), in which `*` stands for
/// anything. `passbook dev fault ls` lists them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List every process and link, and what is wrong with it.
    Ls(Ls),
    /// Process: kill it (SIGKILL); it is started again after a second.
    Kill(On),
    /// Process: stop it (SIGTERM); it is started again a second after its end.
    Terminate(On),
    /// Process: freeze it (SIGSTOP), connections open.
    Freeze(On),
    /// Process: let it go on (SIGCONT).
    Thaw(On),
    /// Process: kill it and keep it away, until `release`.
    Hold(On),
    /// Process: start it again after `hold`.
    Release(On),
    /// Broker: kill it, remove everything it has stored, and start it again.
    Wipe(On),
    /// Link: reset its connections; new ones go through.
    Cut(On),
    /// Link: reset its connections and refuse new ones, until `pass`.
    Refuse(On),
    /// Link: keep connections open and let nothing through, until `pass`.
    Silence(On),
    /// Link: have everything arrive later, until `pass`.
    Delay {
        /// How much later, each way.
        #[arg(value_name = "MILLISECONDS")]
        milliseconds: u32,
        #[command(flatten)]
        on: On,
    },
    /// Link: let so much through, until `pass`.
    Throttle {
        /// Each way.
        #[arg(value_name = "BYTES_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
        bytes_per_second: u32,
        #[command(flatten)]
        on: On,
    },
    /// Link: let everything through again.
    Pass(On),
}

/// What it happens to.
#[derive(Debug, Args)]
pub(crate) struct On {
    /// Names of processes or links.
    #[arg(required = true)]
    on: Vec<String>,
    #[command(flatten)]
    dir: Dir,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    dir: Dir,
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
            Self::Delay { milliseconds, on } => (on, Fault::Delay(milliseconds)),
            Self::Throttle { bytes_per_second, on } => (on, Fault::Throttle(bytes_per_second)),
            Self::Pass(on) => (on, Fault::Pass),
        };
        let client = FaultClient::of(&stack_of(&on.dir)?)?;
        for name in &on.on {
            for done in client.inject(name, fault).await? {
                output::line(&done)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Ls {
    async fn run(self) -> Result<ExitCode> {
        let targets = FaultClient::of(&stack_of(&self.dir)?)?.targets().await?;
        match self.format.output {
            Output::Json => output::json(&targets)?,
            Output::Table => output::table(
                &["NAME", "KIND", "STATE"],
                targets.into_iter().map(|it| vec![it.name, it.kind, it.state]),
            )?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
